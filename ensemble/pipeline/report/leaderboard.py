"""The leaderboard as the page's table, and as score against cost."""

import math

from evaluation.intervals import Interval
from evaluation.leaderboard import Leaderboard, LeaderboardRow
from evaluation.report.figures import Point, score_against_cost
from evaluation.report.page import Cell, Figure, Table
from evaluation.report.page import Row as Line

BESIDE = "keras"
NOTHING = Cell("-")


def board_table(board: Leaderboard) -> Table:
    """Return one line a candidate, highest first."""
    names = list(board.rows[0].iou)
    heads = [
        "candidate",
        board.protocol,
        "interval",
        "gap to the first",
        "its interval",
        "p",
        "verdict",
    ]
    heads += [*names, BESIDE, "oof", "ms an image", "members", "front"]
    return Table(heads, [Line(_cells(row, names), row.chosen) for row in board.rows])


def _cells(row: LeaderboardRow, names: list[str]) -> list[Cell]:
    gap = row.gap
    return [
        Cell(row.name, row.name),
        _number(row.examined),
        _ends(row.interval),
        NOTHING if gap is None else _number(gap.value, "+"),
        NOTHING if gap is None else _ends(gap.interval, "+"),
        NOTHING if gap is None else _number(gap.p),
        Cell(row.verdict, row.verdict),
        *(_number(row.iou.get(name)) for name in names),
        _number(row.others.get(BESIDE)),
        _number(row.oof),
        NOTHING
        if math.isnan(row.milliseconds)
        else Cell(f"{row.milliseconds:.1f}", row.milliseconds),
        Cell(str(len(row.members)), len(row.members)) if row.members else NOTHING,
        Cell("front", 1) if row.front else Cell(""),
    ]


def cost_figure(board: Leaderboard) -> Figure | None:
    """Draw score against cost; None where no cost is known."""
    points = [
        Point(row.name, row.milliseconds, row.examined, row.front)
        for row in board.rows
        if not (math.isnan(row.milliseconds) or math.isnan(row.examined))
    ]
    if not points:
        return None
    caption = "Named: nobody scores as high at less cost. On one core, from the networks on."
    return Figure("cost", score_against_cost(points), caption)


def _number(value: float | None, sign: str = "") -> Cell:
    if value is None or math.isnan(value):
        return NOTHING
    return Cell(f"{value:{sign}.3f}", value)


def _ends(interval: Interval | None, sign: str = "") -> Cell:
    if interval is None:
        return NOTHING
    return Cell(f"{interval.low:{sign}.3f} to {interval.high:{sign}.3f}", interval.low)
