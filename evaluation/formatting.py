"""How numbers and columns of a table are written, for eyes and for files."""

import math
import re
from collections.abc import Mapping, Sequence

from evaluation.intervals import Interval

GAP = "  "
NOTHING = "-"
LEADING_ZERO = re.compile(r"(?<!\d)0(?=\.)")


def decimal(value: float | None, sign: str = "", *, places: int = 3) -> str:
    """Write decimals without the leading zero, as scores are written; nothing has no sign.

    Args:
        value: the number; None or NaN for what is missing.
        sign: `+` for differences.
        places: how many decimals.
    """
    if value is None or math.isnan(value):
        return NOTHING
    shown = f"{round(value, places) + 0.0:{sign}.{places}f}"  # -0.0 + 0.0 is 0.0
    return LEADING_ZERO.sub("", shown)


def format_interval(interval: Interval | None, sign: str = "") -> str:
    """Write both ends of an interval."""
    if interval is None:
        return NOTHING
    return f"{decimal(interval.low, sign)} to {decimal(interval.high, sign)}"


def document_ends(interval: Mapping[str, float] | None, sign: str = "") -> str:
    """Write both ends of an interval that stands in a JSON document, as `low` and `high`."""
    if interval is None:
        return NOTHING
    return f"{decimal(interval['low'], sign)} to {decimal(interval['high'], sign)}"


def in_columns(cells: Sequence[Sequence[str]], *, left: int) -> list[str]:
    """Set cells in columns.

    The width follows the content and never the terminal, so nothing wraps or is cut in a pipe or
    a file.

    Args:
        cells: lines of as many cells each.
        left: so many columns, the first, go to the left; the others to the right.
    """
    widths = [max(len(cell) for cell in column) for column in zip(*cells, strict=True)]
    return [
        GAP.join(
            cell.ljust(width) if place < left else cell.rjust(width)
            for place, (cell, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in cells
    ]


def ruled(lines: Sequence[str]) -> list[str]:
    """Draw a rule below the first line, the heads."""
    return [lines[0], "-" * max(len(line) for line in lines), *lines[1:]]
