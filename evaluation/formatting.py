"""Numbers, intervals and tables as text."""

import math
import re
from collections.abc import Mapping, Sequence
from typing import Literal

from evaluation.intervals import Interval

COLUMN_GAP = "  "
MISSING = "-"
MANY_CLASSES = 20
"""Classes up to which a table or figure shows all."""

SHOWN_AT_EACH_END = 5
LEADING_ZERO = re.compile(r"(?<!\d)0(?=\.)")


def format_decimal(value: float | None, sign: str = "", *, places: int = 3) -> str:
    """Write a number without its leading zero, as scores are written.

    Args:
        value: None or NaN if missing.
        sign: `+` for differences.
        places: number of decimals.

    Examples:
        >>> format_decimal(0.5064), format_decimal(-0.0126, "+"), format_decimal(None)
        ('.506', '-.013', '-')
    """
    if value is None or math.isnan(value):
        return MISSING
    text = f"{round(value, places) + 0.0:{sign}.{places}f}"  # -0.0 + 0.0 is 0.0
    return LEADING_ZERO.sub("", text)


def shown_classes(values: Sequence[float | None]) -> list[int]:
    """Return the indices of the classes that a table or figure shows, in order.

    Of more than `MANY_CLASSES` these are the lowest ones, then the highest, in ascending order.

    Args:
        values: of each class; None or NaN if missing.

    Examples:
        >>> shown_classes([0.5, None, 0.25])
        [0, 1, 2]
        >>> shown_classes([k / 100 for k in range(99, -1, -1)])
        [99, 98, 97, 96, 95, 4, 3, 2, 1, 0]
    """
    if len(values) <= MANY_CLASSES:
        return list(range(len(values)))
    known = [(v, index) for index, v in enumerate(values) if v is not None and not math.isnan(v)]
    ascending = [index for _, index in sorted(known)]
    ends = ascending[:SHOWN_AT_EACH_END] + ascending[-SHOWN_AT_EACH_END:]
    return list(dict.fromkeys(ends))


def note_of_shown_classes(classes: int, by: str, rest: str) -> list[str]:
    """Return the line that says which classes are shown, if these are not all of them.

    Args:
        classes: how many there are.
        by: what they are ordered by.
        rest: where all of them are.
    """
    if classes <= MANY_CLASSES:
        return []
    each = SHOWN_AT_EACH_END
    return [f"Of {classes} classes the {each} lowest and the {each} highest by {by}; {rest}."]


def format_interval(interval: Interval | Mapping[str, float] | None, sign: str = "") -> str:
    """Write both ends of an interval, which may be a JSON document with `low` and `high`.

    Examples:
        >>> format_interval(Interval(-0.1, 0.2, 0.95), "+")
        '-.100 to +.200'
    """
    if interval is None:
        return MISSING
    low, high = (
        (interval.low, interval.high)
        if isinstance(interval, Interval)
        else (interval["low"], interval["high"])
    )
    return f"{format_decimal(low, sign)} to {format_decimal(high, sign)}"


def format_columns(
    cells: Sequence[Sequence[str]],
    *,
    left: int,
    rule: bool = False,
    styles: Sequence[str] | None = None,
) -> list[str]:
    r"""Return the lines of a table.

    The width follows the content and not the terminal, so that nothing is wrapped or cut in a pipe
    or a file.

    Args:
        cells: rows of equally many cells; the first row holds the headings.
        left: number of columns, from the first, that are aligned left; others are aligned right.
        rule: whether to draw a line below the headings.
        styles: of each row, such as `green`, for a terminal; by default no colours.

    Examples:
        >>> print("\n".join(format_columns([["name", "x"], ["a", "12"]], left=1, rule=True)))
        name   x
        --------
        a     12
    """
    from rich.console import Console  # slow to import
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, show_header=False, padding=(0, len(COLUMN_GAP), 0, 0), pad_edge=False)
    for index in range(len(cells[0])):
        table.add_column(justify="left" if index < left else "right", no_wrap=True)
    for row, style in zip(cells, styles or [""] * len(cells), strict=True):
        table.add_row(*(Text(cell) for cell in row), style=style)
    widths = [max(map(len, column)) + len(COLUMN_GAP) for column in zip(*cells, strict=True)]
    colours: Literal["standard"] | None = None if styles is None else "standard"
    console = Console(width=2 * sum(widths) + 1, color_system=colours, force_terminal=True)
    with console.capture() as capture:
        console.print(table, soft_wrap=True)
    lines = [line.rstrip() for line in capture.get().splitlines()]
    drawn = "-" * (sum(widths) - len(COLUMN_GAP))
    return [lines[0], drawn, *lines[1:]] if rule else lines
