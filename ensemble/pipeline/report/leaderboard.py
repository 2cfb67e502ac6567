"""The leaderboard as the page's table, and score against cost as a figure."""

import math

from evaluation.formatting import shown_classes
from evaluation.intervals import Interval
from evaluation.leaderboard import Leaderboard, LeaderboardRow
from evaluation.leaderboard_text import second_protocol
from evaluation.report.figures import CostPoint, score_against_cost
from evaluation.report.page import Figure, HtmlTable, TableCell, TableRow
from evaluation.run_metric import metric_label

MISSING = TableCell("-")


def leaderboard_table(board: Leaderboard) -> HtmlTable:
    """Return one row per candidate, highest score first."""
    iou = board.rows[0].iou
    names = list(iou)
    classes = [names[index] for index in shown_classes([iou[name] for name in names])]
    second = second_protocol(board)
    heads = [
        *("candidate", board.protocol, "interval", "gap to the first", "interval of the gap"),
        *("p", "verdict", *classes, second, "oof", "ms/image", "members", "front"),
    ]
    return HtmlTable(
        heads, [TableRow(_cells(row, classes, second), row.chosen) for row in board.rows]
    )


def cost_figure(board: Leaderboard) -> Figure | None:
    """Plot score against cost; None if no cost is known."""
    points = [
        CostPoint(row.name, row.milliseconds, row.examined, row.on_pareto_front)
        for row in board.rows
        if not (math.isnan(row.milliseconds) or math.isnan(row.examined))
    ]
    if not points:
        return None
    caption = (
        "Named candidates are on the Pareto front: no other scores as high at less cost. Cost is"
        " measured on one core, networks included."
    )
    return Figure("cost", score_against_cost(points, metric_label(board.protocol)), caption)


def _cells(row: LeaderboardRow, classes: list[str], second: str) -> list[TableCell]:
    gap = row.gap
    cost = TableCell(f"{row.milliseconds:.1f}", row.milliseconds)
    return [
        TableCell(row.name, row.name),
        _number(row.examined),
        _interval(row.interval),
        MISSING if gap is None else _number(gap.value, "+"),
        MISSING if gap is None else _interval(gap.interval, "+"),
        MISSING if gap is None else _number(gap.p),
        TableCell(row.verdict, row.verdict),
        *(_number(row.iou.get(name)) for name in classes),
        _number(row.others.get(second)),
        _number(row.oof),
        MISSING if math.isnan(row.milliseconds) else cost,
        TableCell(str(len(row.members)), len(row.members)) if row.members else MISSING,
        TableCell("front", 1) if row.on_pareto_front else TableCell(""),
    ]


def _number(value: float | None, sign: str = "") -> TableCell:
    if value is None or math.isnan(value):
        return MISSING
    return TableCell(f"{value:{sign}.3f}", value)


def _interval(interval: Interval | None, sign: str = "") -> TableCell:
    if interval is None:
        return MISSING
    return TableCell(f"{interval.low:{sign}.3f} to {interval.high:{sign}.3f}", interval.low)
