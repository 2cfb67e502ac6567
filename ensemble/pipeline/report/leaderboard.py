"""The leaderboard as a forest plot in a table, and score against cost as a figure."""

import math
from collections.abc import Mapping, Sequence

from evaluation.core.run_folder import OOF
from evaluation.formatting import MISSING, format_decimal, format_interval
from evaluation.glossary import explain
from evaluation.intervals import Interval
from evaluation.leaderboard import Leaderboard, LeaderboardRow
from evaluation.leaderboard_notes import COST, ONE_GROUP, coverage_with, set_errors_with
from evaluation.leaderboard_text import MIN_P, second_protocol
from evaluation.report.figures import (
    CostPoint,
    Estimate,
    axis_cell,
    estimates_scale,
    interval_cell,
    score_against_cost,
)
from evaluation.report.page import Figure, HtmlTable, TableCell, TableColumn, TableRow
from evaluation.run_metric import MASKED, metric_label, score_column

FOREST_PX = (6, 170)
"""Where the scale of a forest plot starts and ends."""

TERMS = ("out-of-fold", "interval", "model confidence set", "optimism", "front")
"""Explained below the table, in the words of `ens docs`."""

IN_SET, FRONT, MEMBER = "may-be-best", "front", "member"
SIGNIFICANT = (
    "significant: the interval of a difference excludes 0, at the level that is stated beside it,"
    " adjusted for the number of candidates or classes where that is said. Candidates outside the"
    " model confidence set are significantly lower. Not significant does not mean that there is no"
    " difference."
)
FILTERS = (
    (IN_SET, "may be best"),
    (FRONT, "on the cost front"),
    (MEMBER, "single members"),
)


def leaderboard_table(board: Leaderboard, same: Mapping[str, str] | None = None) -> HtmlTable:
    """Return one row per candidate, highest score first; classes are columns not shown at first.

    Args:
        board: of all candidates.
        same: of candidates with exactly the labels of another one, that other one.
    """
    same = same or {}
    scores = [estimate(row.examined, row.interval) for row in board.rows]
    gaps = [estimate(*gap_of(board, row)) for row in board.rows]
    score_scale = estimates_scale(scores, *FOREST_PX)
    gap_scale = estimates_scale(gaps, *FOREST_PX, zero=True)
    chosen = next((row for row in board.rows if row.chosen), board.rows[0])
    rows = [
        TableRow(
            _cells(
                board,
                row,
                interval_cell(
                    score,
                    score_scale,
                    reference=chosen.examined,
                    filled=row.verdict != "lower",
                ),
                interval_cell(gap, gap_scale, reference=0.0, filled=row.verdict != "lower"),
                f"same labels as {same[row.name]}" if row.name in same else "",
            ),
            row.chosen,
            _tags(row),
        )
        for row, score, gap in zip(board.rows, scores, gaps, strict=True)
    ]
    columns = _columns(board, axis_cell(score_scale), axis_cell(gap_scale))
    return HtmlTable("leaderboard", columns, rows, FILTERS)


def table_notes(board: Leaderboard) -> list[str]:
    """Explain the marks and columns of the table, and what the scores are worth.

    Gaps in the table of `ens compare` are to the first candidate, so its notes do not fit here.
    """
    level = f"{100 * board.level:g} %"
    marks = (
        f"Each dot is a score with its interval at {level}. A filled dot may be the best: it is in"
        " the model confidence set, which holds the truly best candidates in"
        f" {level} of all data sets. The vertical line is the"
        f" {'first' if board.chosen is None else 'chosen'} candidate."
    )
    gaps = (
        "Gaps in the table are to the chosen candidate, which was fixed before the images were"
        f" examined; their intervals hold together at {level} ({100 * board.to_chosen_level:.4g} %"
        " each)."
    )
    if board.groups < 2:
        gaps = ONE_GROUP
    elif board.chosen is None or board.split == OOF:
        gaps = f"Intervals of gaps hold for all pairs of candidates together at {level}."
    coverage = coverage_with(board.groups) if board.groups > 1 else None
    terms = [f"{term.name}: {' '.join(term.text.split())}" for term in map(explain, TERMS)]
    return [
        marks,
        SIGNIFICANT,
        gaps,
        *([] if board.protocol == MASKED else [f"Scores are {metric_label(board.protocol)}."]),
        _choice(board),
        *_confidence_set(board),
        COST,
        *([] if coverage is None else [coverage]),
        *terms,
    ]


def _choice(board: Leaderboard) -> str:
    row = next((row for row in board.rows if row.chosen), None)
    if row is None:
        return (
            f"No candidate has oof scores, so none is chosen: the first is the highest on"
            f" {board.split}, and its score is optimistic because it was picked there."
        )
    if board.split == OOF:
        return (
            f"chosen: the highest on oof, {row.name}; examined on the same images, so its score is"
            " optimistic."
        )
    return (
        f"chosen: the highest on oof, {row.name}, oof {format_decimal(row.oof)}, {board.split}"
        f" {format_decimal(row.examined)}, optimism {format_decimal(board.optimism, '+')}."
    )


def _confidence_set(board: Leaderboard) -> list[str]:
    """Say which candidates cannot be distinguished from the first, and how often that errs."""
    compared = sum(not math.isnan(row.examined) for row in board.rows)
    if compared < 2 or board.groups < 2:
        return []
    held, p = len(board.confidence_set), f"{1 - board.level:.2g}"
    words = (
        f"may be best: {held} of {compared} candidates (model confidence set, p above {p}); they"
        " cannot be distinguished from the first."
    )
    if held < compared:
        words += " The others are significantly lower."
    return [f"{words} {set_errors_with(board.groups, compared)}"]


def gap_of(board: Leaderboard, row: LeaderboardRow) -> tuple[float, Interval | None]:
    """Return the gap to the chosen candidate, or to the first if none is chosen."""
    if board.chosen is not None:
        return row.to_chosen, row.to_chosen_interval
    return (math.nan, None) if row.gap is None else (row.gap.value, row.gap.interval)


def estimate(value: float, interval: Interval | None) -> Estimate:
    """Return a number and its interval as they are drawn."""
    return Estimate(value) if interval is None else Estimate(value, interval.low, interval.high)


def cost_figure(board: Leaderboard) -> Figure | None:
    """Plot score against cost; None if no cost is known."""
    points = [
        CostPoint(row.name, row.milliseconds, row.examined, row.on_pareto_front, row.chosen)
        for row in board.rows
        if row.milliseconds > 0 and not math.isnan(row.examined)
    ]
    if not points:
        return None
    caption = (
        "Each numbered candidate is on the front: no other scores as high at less cost, which is"
        " measured on one core, networks of all folds included."
    )
    drawing = score_against_cost(points, metric_label(board.protocol))
    return Figure("cost", _cost_title(points), caption, drawing)


def _cost_title(points: Sequence[CostPoint]) -> str:
    """Say what the highest score costs, compared with the best at half its cost or less."""
    best = max((p for p in points if p.on_front), key=lambda p: p.score)
    cheaper = [p for p in points if p.cost_ms <= best.cost_ms / 2]
    if not cheaper:
        return f"{best.name} scores highest, and no other candidate costs half as much or less"
    other = max(cheaper, key=lambda p: p.score)
    return (
        f"{best.name} scores highest; {other.name}, {format_decimal(best.score - other.score)}"
        f" lower, costs {best.cost_ms / other.cost_ms:.2g} times less"
    )


def _columns(board: Leaderboard, score_axis: str, gap_axis: str) -> list[TableColumn]:
    score = score_column(board.protocol)
    level, group = f"{100 * board.level:g} %", "columns"
    to = "the first" if board.chosen is None else "the chosen"
    each = board.gap_level if board.chosen is None else board.to_chosen_level
    second = second_protocol(board)
    classes = [
        TableColumn(name, f"score of class {name}", shown=False, group="classes")
        for name in _class_names(board)
    ]
    return [
        TableColumn("candidate", "a member or fusion, and its post-processing", ascending=True),
        TableColumn(score, f"score on {board.split}, interval at {level}", True, group, score_axis),
        TableColumn(
            f"gap to {to}",
            f"score minus that of {to}, paired interval at {100 * each:.4g} % ({level} together)",
            True,
            group,
            gap_axis,
        ),
        TableColumn("may be best", "in the model confidence set, with its p-value"),
        TableColumn(
            "ms/image",
            "on one core, networks of all folds included; front: no other scores as high at less",
            ascending=True,
        ),
        TableColumn("members", "members that it needs, of a network per fold", ascending=True),
        TableColumn("oof", "score on the out-of-fold images, where candidates are chosen", False),
        TableColumn("gain", f"score minus that of {board.reference or 'no member'}", False),
        TableColumn(second, f"score under {second}", False),
        *classes,
    ]


def _class_names(board: Leaderboard) -> list[str]:
    return list(dict.fromkeys(name for row in board.rows for name in row.iou))


def _cells(
    board: Leaderboard, row: LeaderboardRow, score_svg: str, gap_svg: str, note: str
) -> list[TableCell]:
    gap, gap_interval = gap_of(board, row)
    badges = [name for name in ("chosen", "reference") if getattr(row, name)]
    cost, front = row.milliseconds, ("front",) if row.on_pareto_front else ()
    return [
        TableCell(row.name, row.name, badges=tuple(badges), note=note),
        _interval(row.examined, row.interval, score_svg),
        _interval(gap, gap_interval, gap_svg, "+") if not math.isnan(gap) else TableCell(""),
        _set_cell(row),
        TableCell(MISSING) if math.isnan(cost) else TableCell(f"{cost:.1f}", cost, "", front),
        TableCell(str(len(row.members)), len(row.members)) if row.members else TableCell(MISSING),
        _number(row.oof),
        _interval(row.gain, row.gain_interval, "", "+"),
        _number(row.others.get(second_protocol(board))),
        *(_number(row.iou.get(name)) for name in _class_names(board)),
    ]


def _set_cell(row: LeaderboardRow) -> TableCell:
    """Say whether a candidate is in the model confidence set; sorted by its p-value."""
    p = 1.0 if row.verdict == "first" else math.nan if row.gap is None else row.gap.p
    if math.isnan(p):
        return TableCell(row.verdict)
    written = f"<{format_decimal(MIN_P)}" if p < MIN_P else format_decimal(p)
    words = {"first": "● first", "may be best": f"● p {written}"}
    return TableCell(words.get(row.verdict, f"○ p {written}"), p)


def _tags(row: LeaderboardRow) -> tuple[str, ...]:
    tags = {
        IN_SET: row.verdict in ("first", "may be best"),
        FRONT: row.on_pareto_front,
        MEMBER: row.is_member,
    }
    return tuple(tag for tag, has in tags.items() if has)


def _number(value: float | None) -> TableCell:
    if value is None or math.isnan(value):
        return TableCell(MISSING)
    return TableCell(format_decimal(value), value)


def _interval(value: float, interval: Interval | None, svg: str, sign: str = "") -> TableCell:
    if math.isnan(value):
        return TableCell(MISSING)
    number = format_decimal(value, sign)
    ends = "" if interval is None else f" ({format_interval(interval, sign)})"
    return TableCell(number + ends, value, svg)
