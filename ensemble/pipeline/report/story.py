"""What each stage gained: the best member, the fusion without steps, the candidate."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, TypeAlias

import numpy as np

from ensemble.pipeline.candidates.postprocess import ARGMAX, read_candidate
from ensemble.pipeline.run.open_run import RunMembers
from evaluation.audit import GainDecomposition, audit
from evaluation.core.classes import Classes
from evaluation.core.specs import parse_spec
from evaluation.core.types import Array, Counts
from evaluation.formatting import MANY_CLASSES, shown_classes
from evaluation.iou import iou_per_class
from evaluation.leaderboard import Leaderboard
from evaluation.protocols import build_protocol, score_images
from evaluation.report.figures import ScoreStage, class_bars, confusion_matrix, waterfall
from evaluation.report.page import Figure
from evaluation.run_metric import score_column
from evaluation.scores import read_scores

ClassTable: TypeAlias = list[list[Any]]
"""Rows of a table, the first of which holds the headings."""

SECOND_PROTOCOL = "keras"
"""Told beside the run's metric: it rises where the ignored class is no longer predicted."""


@dataclass(frozen=True)
class ScoredStage:
    """A candidate that stands for one stage.

    Args:
        name: of the candidate.
        counts: confusion counts on the evaluated split.
    """

    name: str
    counts: Counts


def stages(run_members: RunMembers, board: Leaderboard, candidate: str) -> list[ScoredStage]:
    """Return the reference member, the candidate's fusion without steps, and the candidate."""
    source, _ = read_candidate(run_members.run, candidate)
    scored = {row.name for row in board.rows}
    names = dict.fromkeys([board.reference, f"{source}_{ARGMAX}", candidate])
    return [
        ScoredStage(name, read_scores(run_members.run.scores(name), board.split)[1].counts)
        for name in names
        if name is not None and name in scored
    ]


def waterfalls(path: Sequence[ScoredStage], metric: str, classes: Classes) -> list[Figure]:
    """Plot the gain of each stage under the run's metric and the second protocol."""
    figures = []
    for protocol in dict.fromkeys((metric, SECOND_PROTOCOL)):
        scorer = build_protocol(protocol, classes)
        first = score_images(scorer, path[0].counts, classes.ignore).miou
        bars = [ScoreStage(path[0].name, float(first))]
        bars += [
            ScoreStage(after.name, gain.after, gain.pixels, gain.denominator)
            for after, gain in zip(path[1:], gains(protocol, path, classes), strict=True)
        ]
        caption = (
            f"Under {protocol}: gain by better pixels, and gain by averaging over other classes"
            " (the denominator of the mean)."
        )
        name = f"story-{parse_spec(protocol).name}"
        figures.append(Figure(name, waterfall(score_title(protocol), bars), caption))
    return figures


def gains(protocol: str, path: Sequence[ScoredStage], classes: Classes) -> list[GainDecomposition]:
    """Return the gain of each stage over the one before."""
    scorer = build_protocol(protocol, classes)
    return [audit(scorer, a.counts, b.counts, classes.ignore) for a, b in pairwise(path)]


def score_title(protocol: str) -> str:
    """Return the title of a figure of scores under a protocol."""
    name = score_column(protocol)
    return f"{name} under {protocol}" if name == "mIoU" else name


def summary_sentence(path: Sequence[ScoredStage], metric: str, classes: Classes) -> str:
    """Return one sentence: what all stages together gained under both protocols."""
    first, last = path[0], path[-1]
    if len(path) < 2:
        return f"{first.name} is both the best single member and the candidate."
    parts = []
    for protocol in dict.fromkeys((metric, SECOND_PROTOCOL)):
        (gain,) = gains(protocol, [first, last], classes)
        parts.append(
            f"{gain.after - gain.before:+.3f} under {protocol} ({gain.pixels:+.3f} by pixels,"
            f" {gain.denominator:+.3f} by the denominator)"
        )
    return f"From {first.name} to {last.name}: {' and '.join(parts)}."


def class_figure(path: Sequence[ScoredStage], board: Leaderboard, classes: Classes) -> Figure:
    """Plot the IoU of each scored class at each stage, with intervals."""
    rows = {row.name: row for row in board.rows}
    scored = [classes.names[label] for label in classes.scored]
    shape = len(path), len(scored)
    iou, low, high = np.full(shape, np.nan), np.full(shape, np.nan), np.full(shape, np.nan)
    for k, stage in enumerate(path):
        row = rows[stage.name]
        for column, name in enumerate(scored):
            value, interval = row.iou.get(name), row.iou_intervals.get(name)
            if value is not None:
                iou[k, column] = low[k, column] = high[k, column] = value
            if interval is not None:
                low[k, column], high[k, column] = interval.low, interval.high
    caption = f"Lines are intervals at {100 * board.level:g} %, over {board.groups} groups."
    shown = shown_classes(iou[-1].tolist())
    names = [scored[index] for index in shown]
    parts = (values[:, shown] for values in (iou, low, high))
    bars = class_bars([stage.name for stage in path], names, *parts)
    return Figure("classes", bars, caption)


def class_tables(path: Sequence[ScoredStage], classes: Classes) -> dict[str, ClassTable]:
    """Return what figures of many classes leave out, by name: IoU, and all pairs of classes.

    Empty where the figures show all classes.
    """
    if len(classes) <= MANY_CLASSES:
        return {}
    counts = {stage.name: stage.counts.sum(axis=0) for stage in path}
    iou = {name: iou_per_class(table[None], classes.ignore)[0] for name, table in counts.items()}
    rows = [[classes.names[k], *(values[k] for values in iou.values())] for k in classes.scored]
    tables: dict[str, ClassTable] = {"classes": [["class", *iou], *rows]}
    for name, table in counts.items():
        body = [[true, *row] for true, row in zip(classes.names, table.tolist(), strict=True)]
        tables[f"confusion-{name}"] = [["target", *classes.names], *body]
    return tables


def confusion_figures(path: Sequence[ScoredStage], classes: Classes) -> list[Figure]:
    """Plot the confusion matrix of the first and the last stage."""
    last = path[-1].counts.sum(axis=0)
    names, groups = _shown_in_matrix(last, classes)
    ends = {"start": path[0], "candidate": path[-1]} if len(path) > 1 else {"candidate": path[0]}
    return [
        Figure(
            f"confusion-{end}",
            confusion_matrix(stage.name, names, _summed(stage.counts.sum(axis=0), groups)),
            "Share of each target class's pixels per predicted class.",
        )
        for end, stage in ends.items()
    ]


def _shown_in_matrix(counts: Array, classes: Classes) -> tuple[list[str], list[list[int]]]:
    """Return the names of rows and columns, and the classes of each: all others are one."""
    everything = list(range(len(classes)))
    if len(classes) <= MANY_CLASSES:
        return list(classes.names), [[label] for label in everything]
    iou = iou_per_class(counts[None], classes.ignore)[0]
    shown = shown_classes(iou.tolist())
    others = [label for label in everything if label not in shown]
    names = [*(classes.names[label] for label in shown), f"{len(others)} others"]
    return names, [*([label] for label in shown), others]


def _summed(counts: Array, groups: Sequence[Sequence[int]]) -> Array:
    """Return counts whose rows and columns are sums over groups of classes."""
    rows = np.stack([counts[list(group)].sum(axis=0) for group in groups])
    return np.stack([rows[:, list(group)].sum(axis=1) for group in groups], axis=1)
