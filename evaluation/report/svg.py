"""SVG elements, scales and axes: what the figures of the report are drawn with.

Every text and attribute is escaped here. Colours are classes of `figure.css`, so that a figure
follows the page's light or dark colours. A `tip` is what a page shows under the pointer.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from importlib.resources import files
from itertools import count
from typing import Any, NamedTuple, TypeAlias

from evaluation.formatting import format_decimal

Number: TypeAlias = int | float

WIDTH = 480
"""Width of a figure in its own pixels; a page stretches it to its column."""

TEXT_PX = 12
CHARACTER_PX = 8.0
"""About the width of a character of text."""

TICK_PX = {"across": 64, "up": 42}
"""Least distance of two ticks."""

SMALLEST_RATIO = 3.0
"""Of the ends of a logarithmic scale: there is always a 1, 2 or 5 with zeros between them."""

SERIES = 8
"""Colours of lines and dots, `s0` to `s7`; further ones repeat them with another dash."""

TINT = 0.7
"""Strongest tint of a cell: text on it keeps a contrast of 4.5 in light and dark."""


def element(tag: str, *children: str, tip: str | None = None, **attributes: object) -> str:
    """Return an element.

    Args:
        tag: its name.
        children: markup, as of this function or `text`.
        tip: what is shown under the pointer.
        attributes: `class_` and `stroke_width` become `class` and `stroke-width`; None is left out.

    Examples:
        >>> element("g", text("a < b"), class_="s0")
        '<g class="s0">a &lt; b</g>'
    """
    named = {k.rstrip("_").replace("_", "-"): v for k, v in attributes.items()} | {"data-tip": tip}
    parts = [f' {k}="{text(_number(v))}"' for k, v in named.items() if v is not None]
    return f"<{tag}{''.join(parts)}>{''.join(children)}</{tag}>"


def text(value: object) -> str:
    """Escape a text; signs that XML lacks are left out."""
    return escape("".join(c for c in str(value) if c.isprintable() or c == "\n"))


def _number(value: object) -> object:
    return f"{value:.2f}".rstrip("0").rstrip(".") if isinstance(value, float) else value


def label(x: Number, y: Number, words: str, *, anchor: str = "start", **attributes: Any) -> str:
    """Return a line of text whose middle is at `y`."""
    return element("text", text(words), x=x, y=y + 0.35 * TEXT_PX, text_anchor=anchor, **attributes)


def line(x1: Number, y1: Number, x2: Number, y2: Number, **attributes: Any) -> str:
    """Return a line."""
    return element("line", x1=x1, y1=y1, x2=x2, y2=y2, **attributes)


def path(points: Sequence[tuple[Number, Number]], **attributes: Any) -> str:
    """Return a line through points."""
    steps = " ".join(f"{_number(float(x))},{_number(float(y))}" for x, y in points)
    return element("polyline", points=steps, fill="none", **attributes)


def figure(name: str, height: Number, *children: str, width: Number = WIDTH) -> str:
    """Return an SVG element with a name that readers of the screen hear."""
    return element(
        "svg",
        *children,
        xmlns="http://www.w3.org/2000/svg",
        class_="figure",
        role="img",
        aria_label=name,
        viewBox=f"0 0 {_number(float(width))} {_number(float(height))}",
        style=f"min-width: {width:g}px; max-width: {1.25 * width:g}px" if width > WIDTH else None,
    )


def figure_style() -> str:
    """Return the style sheet of figures, in light colours."""
    return (files("evaluation.report") / "figure.css").read_text(encoding="utf-8")


def standalone(svg: str) -> str:
    """Return a figure as a document of its own: dark ink on white, wherever it is shown."""
    head, body = svg.split(">", 1)
    sheet = '<rect width="100%" height="100%" class="paper"></rect>'
    return (
        f'<?xml version="1.0" encoding="utf-8"?>\n{head}><style>{figure_style()}</style>'
        f"{sheet}{body}\n"
    )


def series(index: int) -> dict[str, Any]:
    """Return the attributes of the line or dot with a number: a colour, then a dash as well.

    Examples:
        >>> series(1), series(9)
        ({'class_': 's1'}, {'class_': 's1', 'stroke_dasharray': '6 3'})
    """
    dashes = (None, "6 3", "2 3", "8 3 2 3")
    dash = dashes[index // SERIES % len(dashes)]
    return {"class_": f"s{index % SERIES}"} | ({"stroke_dasharray": dash} if dash else {})


def shorten_middle(words: str, characters: int) -> str:
    """Leave out the middle of a text that is too long, so that its end stays readable.

    Examples:
        >>> shorten_middle("per_class_vote_suppressed", 15)
        'per_cla…ressed'
    """
    if len(words) <= characters:
        return words
    half = max(1, (characters - 1) // 2)
    return f"{words[:half]}…{words[1 - half :]}" if half > 1 else f"{words[:half]}…"


def wrapped(words: str, characters: int) -> list[str]:
    """Break a name that is too long into two lines, after a sign between its parts where one is.

    Examples:
        >>> wrapped("specialists-big_rock", 17), wrapped("unet", 17)
        (['specialists-', 'big_rock'], ['unet'])
    """
    if len(words) <= characters:
        return [words]
    ends = [k for k in range(1, characters + 1) if words[k - 1] in "-_."]
    fitting = [k for k in ends if len(words) - k <= characters]
    end = min(fitting) if fitting else max(ends, default=characters)
    return [words[:end], shorten_middle(words[end:], characters)]


@dataclass(frozen=True)
class Scale:
    """A linear or logarithmic way from values to pixels; `whole` has whole numbers as ticks."""

    low: Number
    high: Number
    start: Number
    end: Number
    log: bool = False
    whole: bool = False

    @classmethod
    def around(
        cls,
        values: Sequence[Number],
        start: Number,
        end: Number,
        *,
        log: bool = False,
        margin: Number = 0.06,
        at_least: Number = 0.0,
    ) -> "Scale":
        """Return a scale that holds all values that are known; 0 to 1 if there are none.

        Args:
            values: to hold.
            start: pixel of the lower end.
            end: pixel of the upper end.
            log: whether it is logarithmic; the values are then above 0.
            margin: share of the range that is left free on both sides.
            at_least: smallest range, so that no rounding error fills a figure.
        """
        known = [v for v in values if math.isfinite(v)] or [0.0, 1.0]
        low, high = min(known), max(known)
        if log:
            wider = max(1.0, SMALLEST_RATIO * low / high) ** 0.5 * (high / low) ** margin
            return cls(low / wider, high * wider, start, end, log=True)
        room = max(high - low, at_least, 1e-9)
        middle = (low + high) / 2
        low, high = min(low, middle - room / 2), max(high, middle + room / 2)
        return cls(low - margin * room, high + margin * room, start, end)

    def __call__(self, value: Number) -> Number:
        """Return the pixel of a value."""
        low, high = self.low, self.high
        if self.log:
            value, low, high = math.log(value), math.log(low), math.log(high)
        return self.start + (value - low) / (high - low) * (self.end - self.start)

    def ticks(self) -> list[tuple[Number, str]]:
        """Return round values, and how they are written."""
        direction = "across" if self.start < self.end else "up"
        most = max(2, int(abs(self.end - self.start) / TICK_PX[direction]) + 1)
        if self.log:
            return self._log_ticks(most)
        power = 10.0 ** math.floor(math.log10((self.high - self.low) / most))
        steps = [m * power for m in (1, 2, 5, 10, 20)]
        step = next(s for s in steps if len(self._multiples(s)) <= most)
        if self.whole:
            step = max(1.0, step)
        places = max(0, -math.floor(math.log10(step) + 1e-9))
        return [(v, _tick_words(v, places)) for v in self._multiples(step)]

    def _multiples(self, step: Number) -> list[Number]:
        first, last = math.ceil(self.low / step - 1e-9), math.floor(self.high / step + 1e-9)
        return [k * step for k in range(first, last + 1)]

    def _log_ticks(self, most: int) -> list[tuple[Number, str]]:
        decades = range(math.floor(math.log10(self.low)), math.ceil(math.log10(self.high)) + 1)
        for digits in ((1, 2, 5), (1, 3), (1,)):
            values = [d * 10.0**k for k in decades for d in digits]
            inside = [v for v in values if self.low <= v <= self.high]
            if len(inside) <= most + 1:
                break
        return [(v, f"{v:g}") for v in inside]


def _tick_words(value: Number, places: int) -> str:
    return "0" if value == 0 else format_decimal(value, places=places)


class Plot(NamedTuple):
    """The area that two scales span."""

    x: Scale
    y: Scale

    def axes(self, xlabel: str, ylabel: str) -> str:
        """Return grid lines, tick labels and names of both axes; empty names for none."""
        x, y = self.x, self.y
        parts = []
        for value, words in x.ticks():
            parts.append(line(x(value), y.start, x(value), y.end, class_="grid"))
            parts.append(label(x(value), y.start + 11, words, anchor="middle", class_="soft"))
        for value, words in y.ticks():
            parts.append(line(x.start, y(value), x.end, y(value), class_="grid"))
            parts.append(label(x.start - 6, y(value), words, anchor="end", class_="soft"))
        parts.append(axis_name(x, y.start, xlabel))
        if ylabel:
            parts.append(label(x.start - 28, y.end - 14, ylabel, class_="soft"))
        return "".join(parts)


def axis_name(x: Scale, bottom: Number, words: str) -> str:
    """Return the name of a horizontal axis, below its tick labels."""
    middle = (x.start + x.end) / 2
    return label(middle, bottom + 27, words, anchor="middle", class_="soft") if words else ""


def legend(names: Sequence[str], top: Number, *, left: Number = 8, width: Number = WIDTH) -> str:
    """Return a line or more that says which series has which colour."""
    return "".join(
        element("circle", cx=x + 4, cy=y, r=4, fill="currentColor", **series(index))
        + label(x + 13, y, shorten_middle(name, 44))
        for index, (name, (x, y)) in enumerate(
            zip(names, _legend_places(names, top, left, width), strict=True)
        )
    )


def legend_height(names: Sequence[str], *, left: Number = 8, width: Number = WIDTH) -> Number:
    """Return how high a legend is."""
    places = _legend_places(names, 0, left, width)
    return places[-1][1] + 12 if places else 0


def _legend_places(
    names: Sequence[str], top: Number, left: Number, width: Number
) -> list[tuple[Number, Number]]:
    places, x, y = [], left, top
    for name in names:
        needed = 13 + CHARACTER_PX * min(len(name), 44) + 16
        if x > left and x + needed > width:
            x, y = left, y + 18
        places.append((x, y))
        x += needed
    return places


def label_width(names: Sequence[str], share: Number = 0.4) -> Number:
    """Return the pixels that row labels get: what the longest needs, up to a share of the width."""
    longest = max((len(name) for name in names), default=0)
    return min(CHARACTER_PX * longest + 10, share * WIDTH)


def row_label(x: Number, y: Number, name: str, width: Number) -> str:
    """Return the label of a row, right of which `x` is; shortened, if it does not fit."""
    shown = shorten_middle(name, int((width - 10) / CHARACTER_PX + 1e-9))
    return label(x - 8, y, shown, anchor="end", tip=None if shown == name else name)


def rows_from(top: Number, height: Number, number: int) -> list[Number]:
    """Return the middle of each of so many rows."""
    return [top + (k + 0.5) * height for k, _ in zip(count(), range(number), strict=False)]
