"""Images with label maps laid over them, side by side: the target, and each candidate's.

Images to draw: a spread, those labelled worst, or those that members quarrel about.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import numpy as np

from ensemble.pipeline.candidates.postprocess import read_labels
from ensemble.pipeline.data.prepare import run_classes
from ensemble.pipeline.report.candidate_trace import Walk
from ensemble.pipeline.report.gallery import (
    DISPUTED,
    most,
    shares_on_the_way,
    wrong_shares,
)
from ensemble.pipeline.run.open_run import RunMembers
from evaluation.core.arrays import evenly_spaced
from evaluation.core.errors import BadData, BadLabels, BadRun
from evaluation.core.run_folder import Run
from evaluation.core.types import Array, Labels
from members.data.contact_sheet import write_sheet
from members.data.dataset import DataSet

Pick = Literal["spread", "worst", "disputed"]
TOLD = {"worst": "wrong", "disputed": "disputed"}


def picked(
    run: Run, candidate: str, split: str, *, labels: Array, data: DataSet, pick: Pick, count: int
) -> dict[int, str]:
    """Choose up to `count` images, in the order in which to draw them.

    Args:
        run: the experiment folder.
        candidate: whose labels, or members, are asked.
        split: of the images.
        labels: of the candidate, (image, row, col).
        data: the images.
        pick: evenly spaced, or by how many scored pixels the candidate has wrong, or its members
            contradict each other about, the largest first.
        count: how many.

    Returns:
        By place, why it is there; empty for a spread.

    Raises:
        BadRun: nothing to pick by.
    """
    if pick == "spread":
        return dict.fromkeys(evenly_spaced(len(data), count), "")
    if pick == "worst":
        if data.masks is None:
            raise BadRun(f"split {split!r} has no target to be wrong by; --pick spread needs none")
        shares = wrong_shares(labels, data)
    else:
        walk = Walk.of(RunMembers.of(run), candidate, split, None)
        if len(walk.members) < 2:
            raise BadRun(f"{candidate} has one member, whom nobody contradicts; take a fusion's")
        shares = shares_on_the_way(walk, [DISPUTED])[DISPUTED]
    places = most(shares, count)
    if not places:
        raise BadRun(f"no scored pixel of {split} is {TOLD[pick]}; take --pick spread")
    return {place: f"{shares[place]:.0%} {TOLD[pick]}" for place in places}


def overlay(
    run: Run,
    candidates: Sequence[str],
    split: str,
    out: Path,
    *,
    ids: Sequence[str] = (),
    pick: Pick = "spread",
    count: int = 12,
    opacity: float = 0.5,
) -> list[str]:
    """Write a PNG with one row an image.

    Args:
        run: the experiment folder.
        candidates: whose labels; a column each, after the target where it is known.
        split: of the images.
        out: where to.
        ids: which images.
        pick: which without ids; the first candidate is asked.
        count: without ids so many.
        opacity: of the labels, 0 to 1.

    Returns:
        The ids of the images.

    Raises:
        BadRun: no such split or candidate, or nothing to pick by.
        BadData: no such image.
        BadLabels: labels that are no class.
    """
    if split not in run.splits():
        raise BadRun(f"no split {split!r} in {run.path}; known: {', '.join(run.splits())}")
    data, classes = DataSet.load(run.data(split)), run_classes(run)
    found = {name: read_labels(run, name, split) for name in candidates}
    if ids:
        why = dict.fromkeys(_places(data, ids), "")
    else:
        first = candidates[0]
        why = picked(run, first, split, labels=found[first], data=data, pick=pick, count=count)
    places = list(why)
    columns: dict[str, Labels] = {}
    if data.masks is not None:
        columns["target"] = np.asarray(data.masks[places])
    for name, everywhere in found.items():
        labels = np.asarray(everywhere[places])
        if labels.max(initial=0) >= len(classes):
            raise BadLabels(
                f"{name} holds labels up to {labels.max()}; expected 0 to {len(classes) - 1};"
                " remove them and postprocess again"
            )
        columns[name] = labels
    captions = [f"{data.ids[place]}  {note}".rstrip() for place, note in why.items()]
    images = np.asarray(data.images[places])
    write_sheet(out, images, columns, classes=classes, captions=captions, opacity=opacity)
    return [data.ids[place] for place in places]


def _places(data: DataSet, ids: Sequence[str]) -> list[int]:
    known = {name: place for place, name in enumerate(data.ids)}
    for name in ids:
        if name not in known:
            raise BadData(f"no image {name!r}; expected ids such as {data.ids[0]}")
    return [known[name] for name in ids]
