"""Pictures to draw: a spread, those labelled worst, or those that members quarrel about."""

from typing import Literal

from ensemble.pipeline.reporting.review import DISPUTED, most, shares_on_the_way, wrong_shares
from ensemble.pipeline.reporting.walk import Walk
from ensemble.pipeline.sources import Sources
from evaluation.ground.arrays import Array
from evaluation.ground.errors import BadRun
from evaluation.ground.layout import Run
from evaluation.ground.spaced import spaced
from members.data.dataset import DataSet

Pick = Literal["spread", "worst", "disputed"]
TOLD = {"worst": "wrong", "disputed": "disputed"}


def picked(
    run: Run, candidate: str, split: str, *, labels: Array, data: DataSet, pick: Pick, count: int
) -> dict[int, str]:
    """Choose up to `count` pictures, in the order in which to draw them.

    Args:
        run: the experiment folder.
        candidate: whose labels, or members, are asked.
        split: of the pictures.
        labels: of the candidate, (picture, row, col).
        data: the pictures.
        pick: evenly spaced, or by how many scored pixels the candidate has wrong, or its members
            contradict each other about, the largest first.
        count: how many.

    Returns:
        By place, why it is there; empty for a spread.

    Raises:
        BadRun: nothing to pick by.
    """
    if pick == "spread":
        return dict.fromkeys(spaced(len(data), count), "")
    if pick == "worst":
        if data.masks is None:
            raise BadRun(f"split {split!r} has no truth to be wrong by; --pick spread needs none")
        shares = wrong_shares(labels, data)
    else:
        walk = Walk.of(Sources.of(run), candidate, split, None)
        if len(walk.members) < 2:
            raise BadRun(f"{candidate} has one member, whom nobody contradicts; take a fusion's")
        shares = shares_on_the_way(walk, [DISPUTED])[DISPUTED]
    places = most(shares, count)
    if not places:
        raise BadRun(f"no scored pixel of {split} is {TOLD[pick]}; take --pick spread")
    return {place: f"{shares[place]:.0%} {TOLD[pick]}" for place in places}
