"""How numbers and columns of a table are written, for eyes and for files."""

import math
from collections.abc import Sequence

from evaluation.bootstrap import Interval

GAP = "  "
NOTHING = "-"


def decimal(value: float | None, sign: str = "") -> str:
    """Write three decimals without the leading zero, as scores are written."""
    if value is None or math.isnan(value):
        return NOTHING
    return f"{value:{sign}.3f}".replace("0.", ".", 1)


def ends(interval: Interval | None, sign: str = "") -> str:
    """Write both ends of an interval."""
    if interval is None:
        return NOTHING
    return f"{decimal(interval.low, sign)} to {decimal(interval.high, sign)}"


def laid_out(cells: Sequence[Sequence[str]]) -> list[str]:
    """Set cells in columns: a line of heads, a rule, and the lines; the first two to the left.

    The width follows the content and never the terminal, so nothing wraps or is cut in a pipe or
    a file.
    """
    widths = [max(len(cell) for cell in column) for column in zip(*cells, strict=True)]
    lines = [_line(line, widths) for line in cells]
    return [lines[0], "-" * max(len(line) for line in lines), *lines[1:]]


def _line(cells: Sequence[str], widths: Sequence[int]) -> str:
    left = [cell.ljust(width) for cell, width in zip(cells[:2], widths, strict=False)]
    right = [cell.rjust(width) for cell, width in zip(cells[2:], widths[2:], strict=True)]
    return GAP.join([*left, *right]).rstrip()
