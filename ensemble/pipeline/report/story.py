"""The story of the score: the best member, the fusion, the candidate; what each gained and how."""

from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

import numpy as np

from ensemble.pipeline.candidates.postprocess import ARGMAX, read_candidate
from ensemble.pipeline.run.open_run import RunMembers
from evaluation.audit import GainDecomposition, audit
from evaluation.core.classes import Classes
from evaluation.core.types import Counts
from evaluation.leaderboard import Leaderboard
from evaluation.protocols import PROTOCOLS, score_images
from evaluation.report.figures import Stage, class_bars, confusion_matrix, waterfall
from evaluation.report.page import Figure
from evaluation.scores import read_scores

TOLD = ("masked", "keras")


class Scored(NamedTuple):
    """A candidate that the story passes through.

    Args:
        name: of the candidate.
        counts: of the examined split.
    """

    name: str
    counts: Counts


def stations(sources: RunMembers, board: Leaderboard, candidate: str) -> list[Scored]:
    """List the reference member, the candidate's fusion without steps, and the candidate."""
    source, _ = read_candidate(sources.run, candidate)
    known = {row.name for row in board.rows}
    way = [board.reference, f"{source}_{ARGMAX}", candidate]
    names = [name for name in dict.fromkeys(way) if name is not None and name in known]
    return [
        Scored(name, read_scores(sources.run.scores(name), board.split)[1].counts) for name in names
    ]


def waterfalls(way: Sequence[Scored], ignore: int | None) -> list[Figure]:
    """Draw the story under both protocols, with what each stage gained and by what."""
    figures = []
    for name in TOLD:
        stages = [Stage(way[0].name, _miou(name, way[0], ignore))]
        stages += [
            Stage(after.name, gain.after, gain.pixels, gain.denominator)
            for after, gain in zip(way[1:], gains(name, way, ignore), strict=True)
        ]
        caption = (
            f"Under {name}: what better pixels gained, and what other classes in the mean did."
        )
        figures.append(Figure(f"story-{name}", waterfall(name, stages), caption))
    return figures


def gains(protocol: str, way: Sequence[Scored], ignore: int | None) -> list[GainDecomposition]:
    """Return the gain of each station over the one before."""
    scorer = PROTOCOLS.build(protocol)
    return [audit(scorer, a.counts, b.counts, ignore) for a, b in pairwise(way)]


def told(way: Sequence[Scored], ignore: int | None) -> str:
    """Say in one sentence what the whole way gained under both protocols."""
    if len(way) < 2:
        return (
            f"{way[0].name} is the best single member and the candidate: there is nothing between."
        )
    ends = [way[0], way[-1]]
    parts = []
    for name in TOLD:
        (gain,) = gains(name, ends, ignore)
        parts.append(
            f"{gain.after - gain.before:+.3f} under {name} ({gain.pixels:+.3f} by pixels,"
            f" {gain.denominator:+.3f} by the denominator)"
        )
    return f"From {ends[0].name} to {ends[1].name}: {' and '.join(parts)}."


def class_figure(way: Sequence[Scored], board: Leaderboard, classes: Classes) -> Figure:
    """Draw each scored class of the stations, with intervals."""
    rows = {row.name: row for row in board.rows}
    scored = [classes.names[label] for label in classes.scored]
    iou = np.array([[_or_nan(rows[one.name].iou.get(name)) for name in scored] for one in way])
    low, high = iou.copy(), iou.copy()
    for place, one in enumerate(way):
        for column, name in enumerate(scored):
            ends = rows[one.name].iou_intervals.get(name)
            if ends is not None:
                low[place, column], high[place, column] = ends.low, ends.high
    caption = f"Lines are intervals at {100 * board.level:g} %, over {board.groups} groups."
    bars = class_bars([one.name for one in way], scored, iou, low, high)
    return Figure("classes", bars, caption)


def confusion_figures(way: Sequence[Scored], classes: Classes) -> list[Figure]:
    """Draw where the pixels of each class went, for the first and the last station."""
    ends = {"start": way[0], "candidate": way[-1]} if len(way) > 1 else {"candidate": way[0]}
    return [
        Figure(
            f"confusion-{end}",
            confusion_matrix(one.name, classes.names, one.counts.sum(axis=0)),
            "Shares of each true class.",
        )
        for end, one in ends.items()
    ]


def _miou(protocol: str, one: Scored, ignore: int | None) -> float:
    return float(score_images(PROTOCOLS.build(protocol), one.counts, ignore).miou)


def _or_nan(value: float | None) -> float:
    return float("nan") if value is None else value
