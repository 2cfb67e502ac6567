"""The leaderboard of `ens compare` as text: who is first, who may be as good, at what cost."""

import math
from collections.abc import Iterable

from evaluation.cells import NOTHING, decimal, ends, in_columns, ruled
from evaluation.leaderboard import Leaderboard, Row
from evaluation.remarks import rank_remarks
from evaluation.table import beside_of, class_names

LEAST_P = 0.001


def ranking_text(board: Leaderboard) -> str:
    """Write the table with a line for each candidate, then what it says."""
    level = f"{100 * board.level:g}% interval"
    names, beside = class_names(board), beside_of(board)
    head = ["", "candidate", board.split, level, "gap", "paired interval", "p", ""]
    head += ["ms", "members", "", *names, beside]
    cells = [head, *(_cells(row, names, beside) for row in board.rows)]
    return "\n".join([*ruled(in_columns(cells, left=2)), "", *rank_remarks(board)])


def _cells(row: Row, names: Iterable[str], beside: str) -> list[str]:
    return [
        "*" if row.chosen else "",
        row.name,
        decimal(row.examined),
        ends(row.interval),
        *_gap(row),
        NOTHING if math.isnan(row.milliseconds) else f"{row.milliseconds:.1f}",
        str(len(row.members)) if row.members else NOTHING,
        "front" if row.front else "",
        *(decimal(row.iou.get(name)) for name in names),
        decimal(row.others[beside]),
    ]


def _gap(row: Row) -> list[str]:
    if row.gap is None:
        return [NOTHING, NOTHING, NOTHING, row.verdict]
    p = row.gap.p
    shown = f"<{LEAST_P}".replace("0.", ".") if p < LEAST_P else decimal(p)
    return [decimal(row.gap.value, "+"), ends(row.gap.interval, "+"), shown, row.verdict]
