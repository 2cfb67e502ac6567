"""What each class gains or loses against the best single member, and to which class."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ensemble.pipeline.report.leaderboard import FOREST_PX, estimate
from ensemble.pipeline.report.story import ScoredStage
from evaluation.class_gains import ClassGain, class_gains
from evaluation.core.classes import Classes
from evaluation.core.errors import format_count
from evaluation.core.specs import parse_spec
from evaluation.core.types import Array
from evaluation.formatting import (
    MANY_CLASSES,
    MISSING,
    format_decimal,
    format_interval,
    shown_classes,
)
from evaluation.iou import safe_divide
from evaluation.leaderboard import Leaderboard
from evaluation.protocols import build_protocol
from evaluation.report.figures import (
    Drawing,
    Table,
    axis_cell,
    dot_rows,
    estimates_scale,
    interval_cell,
    matrix,
)
from evaluation.report.page import Figure, HtmlTable, TableCell, TableColumn, TableRow
from evaluation.run_metric import NAMED
from evaluation.scores import ScoredImages

AXES = ("target", "predicted")

SHOWN_OF_MANY = 12
"""Classes in a matrix, where there are more than `MANY_CLASSES`."""

SMALLEST_MOVE = 0.0005
"""Smaller shares of a class's pixels that go to another class are not told."""

GAIN_NOTE = (
    "gain: the class's score for the candidate minus that for the best single member; intervals are"
    " paired over groups of images, and those of all classes together hold at 95 %. A change is"
    " significant if its interval excludes 0."
)
PAYS_NOTE = (
    "pays for: of the pixels that a class lost (right for the best single member, no longer for the"
    " candidate, in sum), the class that most went to, and their share of the class's pixels."
)
NOTES = (GAIN_NOTE, PAYS_NOTE)


@dataclass(frozen=True)
class ClassChange:
    """What happened to a scored class from the best single member to the candidate.

    Args:
        name: of the class.
        share: of the scored pixels, 0 to 1.
        gain: in its score.
        pays_for: the class that most of the pixels went to that it lost, and their share of its
            pixels; None if it lost none.
    """

    name: str
    share: float
    gain: ClassGain
    pays_for: tuple[str, float] | None


def class_score(metric: str) -> str:
    """Return what is measured of a class: IoU, or Dice, precision or recall."""
    name = parse_spec(metric).name
    return name.capitalize() if name in NAMED else "IoU"


def shares_of_targets(counts: Array) -> Array:
    """Return the share of each target class's pixels that is predicted as each class."""
    totals = np.broadcast_to(counts.sum(axis=1, keepdims=True), counts.shape)
    return np.asarray(safe_divide(1.0 * counts, totals))


def class_changes(
    before: ScoredImages,
    after: ScoredImages,
    board: Leaderboard,
    classes: Classes,
    rng: np.random.Generator,
) -> list[ClassChange]:
    """Compare two candidates class by class; only scored classes are returned."""
    protocol = build_protocol(board.protocol, classes)
    gains = class_gains(before, after, protocol, classes.ignore, rng=rng, level=board.level)
    moved = moved_shares(before, after)
    pixels = after.counts.sum(axis=(0, 2))[list(classes.scored)]
    result = []
    for label, share in zip(classes.scored, pixels / max(1, pixels.sum()), strict=True):
        other, lost = payment(moved[label], label)
        pays_for = (classes.names[other], lost) if lost > SMALLEST_MOVE else None
        result.append(ClassChange(classes.names[label], float(share), gains[label], pays_for))
    return result


def moved_shares(before: ScoredImages, after: ScoredImages) -> Array:
    """Return the change in the share of each target class's pixels predicted as each class."""
    first, last = (shares_of_targets(one.counts.sum(axis=0)) for one in (before, after))
    moved: Array = last - first
    return moved


def payment(moved: Array, own: int) -> tuple[int, float]:
    """Return the class that most of a class's pixels went to that it lost, and their share.

    What moved from one wrong class to another is not lost.

    Args:
        moved: change in the share of the class's pixels that is predicted as each class.
        own: index of the class itself.

    Examples:
        >>> payment(np.array([0.05, -0.04, -0.01]), own=1)
        (0, 0.04)
    """
    others = np.nan_to_num(moved).copy()
    lost, others[own] = max(0.0, -float(others[own])), 0
    other = int(np.argmax(others))
    return other, min(lost, float(others[other]))


def class_table(
    changes: Sequence[ClassChange], path: Sequence[ScoredStage], board: Leaderboard
) -> HtmlTable:
    """Return a row per scored class: both scores, the gain, and where its pixels went."""
    score = class_score(board.protocol)
    gains = [estimate(change.gain.gain, change.gain.interval) for change in changes]
    scale = estimates_scale(gains, *FOREST_PX, zero=True)
    columns = [
        TableColumn("class", "a scored class", ascending=True),
        TableColumn("pixels", "share of the scored pixels"),
        TableColumn(path[0].name, f"{score} of the best single member"),
        TableColumn(path[-1].name, f"{score} of the candidate"),
        TableColumn(
            "gain", "with its interval; all hold together", True, "columns", axis_cell(scale)
        ),
        TableColumn("pays for", "the class that most of the pixels went to that it lost"),
    ]
    rows = []
    for change, gain in zip(changes, gains, strict=True):
        drawn = interval_cell(gain, scale, reference=0.0, filled=gain.significant)
        interval = change.gain.interval
        ends = "" if interval is None else f" ({format_interval(interval, '+')})"
        text = f"{format_decimal(gain.value, '+')}{ends}"
        name, share = change.pays_for or (MISSING, 0.0)
        cells = [
            TableCell(change.name, change.name),
            TableCell(f"{change.share:.1%}", change.share),
            _number(change.gain.before),
            _number(change.gain.after),
            TableCell(text, "" if np.isnan(gain.value) else gain.value, drawn),
            TableCell(f"{name} {share:.1%}" if share else name, share or ""),
        ]
        rows.append(TableRow(cells, tags=_tags(change.gain)))
    filters = (("loses", "lose"), ("gains", "gain"), ("significant", "significant"))
    return HtmlTable("classes", columns, rows, filters)


def _number(value: float) -> TableCell:
    return TableCell(format_decimal(value), "" if np.isnan(value) else value)


def _tags(gain: ClassGain) -> tuple[str, ...]:
    tags = {"loses": gain.gain < 0, "gains": gain.gain > 0, "significant": gain.significant}
    return tuple(tag for tag, has in tags.items() if has)


def gains_figure(changes: Sequence[ClassChange], path: Sequence[ScoredStage]) -> Figure:
    """Plot the gain of each class with its interval; of many the extremes."""
    ordered = sorted(changes, key=lambda change: -np.nan_to_num(change.gain.gain))
    known = [change for change in ordered if not np.isnan(change.gain.gain)]
    losers = [change.name for change in known if change.gain.gain < 0]
    significant = [change for change in known if change.gain.significant]
    title = f"{len(known) - len(losers)} of {len(known)} classes gain"
    if losers:
        title += f", {losers[-1]} loses most"
    if any(change.gain.interval for change in known):
        title += f"; {format_count(len(significant), 'change')} significant"
    values = [change.gain.gain for change in ordered]
    picked = sorted(shown_classes(values)) if len(ordered) > MANY_CLASSES else range(len(ordered))
    drawn = [ordered[k] for k in picked]
    gains = [estimate(change.gain.gain, change.gain.interval) for change in drawn]
    axis = f"{path[-1].name} minus {path[0].name}"
    drawing = dot_rows(
        "gain of each class",
        [change.name for change in drawn],
        {"gain": gains},
        what="class",
        axis=axis,
        signed=True,
    )
    of_many = f" (of {len(ordered)} the extremes)" if len(drawn) < len(ordered) else ""
    caption = (
        "A filled dot is a significant change: its interval excludes 0. The intervals of all"
        f" classes hold together at 95 %{of_many}."
    )
    table: Table = [["class", "gain", "low", "high"]]
    table += [[c.name, *estimate(c.gain.gain, c.gain.interval)] for c in ordered]
    return Figure("class-gains", title, caption, drawing, table)


def scores_figure(path: Sequence[ScoredStage], board: Leaderboard, classes: Classes) -> Figure:
    """Plot the score of each scored class at each stage, with intervals; of many the extremes."""
    rows = {row.name: row for row in board.rows}
    names = [classes.names[label] for label in classes.scored]
    columns = {
        stage.name: [
            estimate(_or_nan(rows[stage.name].iou.get(n)), rows[stage.name].iou_intervals.get(n))
            for n in names
        ]
        for stage in path
    }
    last = columns[path[-1].name]
    shown = shown_classes([one.value for one in last])
    score = class_score(board.protocol)
    drawing = dot_rows(
        f"{score} of each class",
        [names[k] for k in shown],
        {stage: [values[k] for k in shown] for stage, values in columns.items()},
        what="class",
        axis=score,
    )
    known = [k for k, one in enumerate(last) if not np.isnan(one.value)]
    title = f"{score} of each class"
    if known:
        low, high = (pick(known, key=lambda k: last[k].value) for pick in (min, max))
        title = (
            f"{names[low]} is hardest ({format_decimal(last[low].value)}), {names[high]} easiest"
            f" ({format_decimal(last[high].value)})"
        )
    of_many = f"; of {len(names)} classes the lowest and highest" if len(shown) < len(names) else ""
    groups = format_count(board.groups, "group")
    caption = f"Lines are intervals at {100 * board.level:g} %, over {groups}{of_many}."
    if board.groups < 2:
        caption = f"All images are of one group, so there are no intervals{of_many}."
    heads = [f"{stage} {part}".strip() for stage in columns for part in ("", "low", "high")]
    table: Table = [["class", *heads]]
    table += [[n, *(v for c in columns.values() for v in c[k])] for k, n in enumerate(names)]
    return Figure("classes", title, caption, drawing, table)


def _or_nan(value: float | None) -> float:
    return float("nan") if value is None else value


def confusion_figures(path: Sequence[ScoredStage], classes: Classes) -> list[Figure]:
    """Plot the confusion matrix of the last stage, and how it differs from the first one's."""
    first, last = (_scored_shares(stage.images, classes) for stage in (path[0], path[-1]))
    figures = [_confusion_figure(path[-1], last, classes)]
    if len(path) > 1:
        figures.append(_change_figure(path, last - first, classes))
    return figures


def _scored_shares(images: ScoredImages, classes: Classes) -> Array:
    """Return the shares of each target class's pixels; those of the ignored class are NaN."""
    counts = images.counts.sum(axis=0)
    if classes.ignore is not None:
        counts[classes.ignore] = 0
    return shares_of_targets(counts)


def _confusion_figure(stage: ScoredStage, shares: Array, classes: Classes) -> Figure:
    wrong = np.nan_to_num(shares) * (1 - np.eye(len(shares)))
    target, pred = np.unravel_index(np.argmax(wrong), wrong.shape)
    names, share = classes.names, wrong[target, pred]
    title = f"{names[target]} is most often taken for {names[pred]} ({share:.0%})"
    caption = "Share of each target class's pixels by the class that is predicted; a row adds to 1"
    drawing, left_out = _matrix(f"confusion of {stage.name}", shares, wrong, classes, strongest=1.0)
    counts = stage.images.counts.sum(axis=0).tolist()
    body = [[name, *row] for name, row in zip(names, counts, strict=True)]
    table: Table = [["target \\ predicted, pixels", *names], *body]
    return Figure("confusion", title, f"{caption}{left_out}.", drawing, table)


def _change_figure(path: Sequence[ScoredStage], change: Array, classes: Classes) -> Figure:
    paid = np.zeros(change.shape)
    for own in classes.scored:
        other, lost = payment(change[own], own)
        paid[own, other] = lost
    target, pred = np.unravel_index(np.argmax(paid), paid.shape)
    names, lost, title = classes.names, paid[target, pred], "No class loses pixels to another"
    if lost > SMALLEST_MOVE:
        title = f"{names[target]} pays for {names[pred]}: {lost:.1%} of its pixels"
    caption = (
        f"Change from {path[0].name} to {path[-1].name} in the share of each target class's pixels:"
        " blue on the diagonal is a gain, blue elsewhere went from the row's class to the column's"
    )
    largest = paid if lost > 0 else np.abs(np.nan_to_num(change))
    drawing, left_out = _matrix("change of the confusion", change, largest, classes, signed=True)
    body = [[name, *row] for name, row in zip(names, change.tolist(), strict=True)]
    table: Table = [["target \\ predicted, change in share", *names], *body]
    return Figure("confusion-change", title, f"{caption}{left_out}.", drawing, table)


def _matrix(
    name: str,
    shares: Array,
    importance: Array,
    classes: Classes,
    *,
    signed: bool = False,
    strongest: float | None = None,
) -> tuple[Drawing, str]:
    """Draw a matrix of classes: of many, those of the pairs that are most important."""
    shown, left_out = list(range(len(classes))), ""
    if len(classes) > MANY_CLASSES:
        order = np.argsort(-importance, axis=None)[: MANY_CLASSES * MANY_CLASSES]
        pairs = zip(*np.unravel_index(order, importance.shape), strict=True)
        first = dict.fromkeys(int(label) for pair in pairs for label in pair)
        shown = sorted(list(first)[:SHOWN_OF_MANY])
        left_out = f" (of {len(classes)} classes those that are confused most)"
    rows = [label for label in shown if label != classes.ignore]
    drawing = matrix(
        name,
        [classes.names[label] for label in rows],
        [classes.names[label] for label in shown],
        shares[np.ix_(rows, shown)],
        axes=AXES,
        signed=signed,
        strongest=strongest,
    )
    return drawing, left_out
