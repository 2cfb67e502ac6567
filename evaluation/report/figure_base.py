"""Matplotlib axes as SVG that takes its colours from the page, in light and dark mode."""

import contextlib
import io
import re
import textwrap
import warnings
from collections.abc import Callable, Iterator
from typing import Any

from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure

# Matplotlib needs colours; the page's own replace these two.
INK, FAINT = "#010203", "#030201"
THEME = {INK: "var(--ink)", FAINT: "var(--faint)"}
# The page's light colours, for a figure without a page.
PAPER = "#ffffff"
PRINTED = {INK: "#1b1b1b", FAINT: "#b9b9b9"}
# Okabe and Ito's colours that stand out from both light and dark backgrounds.
SERIES = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#8a7a00", "#7a6fd0")

STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",
    "font.family": "sans-serif",
    "font.size": 10,
    "text.color": INK,
    "axes.edgecolor": FAINT,
    "axes.labelcolor": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": False,
    "xtick.color": INK,
    "ytick.color": INK,
    "grid.color": FAINT,
    "grid.linewidth": 0.5,
    "legend.frameon": False,
    "figure.facecolor": "none",
    "axes.facecolor": "none",
    "savefig.facecolor": "none",
}


@contextlib.contextmanager
def literal_text() -> Iterator[None]:
    """Draw texts as they are, from the first to the file; for every figure of the project.

    `$` in an id or class name starts no formula, and a sign that the font lacks is a box.
    """
    with rc_context({"text.parse_math": False}), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing from")
        yield


def render(
    name: str, paint: Callable[[Axes], None], *, width: float = 6.4, height: float = 3.2
) -> str:
    """Return an SVG element with one pair of axes.

    Args:
        name: title of the figure; its ids are derived from it.
        paint: draws on the axes.
        width: in inches of 72 pixels.
        height: in inches of 72 pixels.
    """
    with literal_text(), rc_context({**STYLE, "svg.hashsalt": name}):
        figure = Figure(figsize=(width, height), layout="constrained")
        paint(figure.subplots())
        file = io.StringIO()
        figure.savefig(file, format="svg", metadata={"Date": None, "Title": name})
    text = file.getvalue()
    for placeholder, colour in THEME.items():
        text = text.replace(placeholder, colour)
    return text[text.index("<svg") :]


def standalone(svg: str) -> str:
    """Return what `render` returned as an SVG document: dark ink on white, wherever it is shown."""
    for placeholder, colour in THEME.items():
        svg = svg.replace(colour, PRINTED[placeholder])
    sheet = f'<rect width="100%" height="100%" fill="{PAPER}"/>'
    head, body = svg.split(">", 1)
    return f'<?xml version="1.0" encoding="utf-8"?>\n{head}>\n {sheet}{body}'


def wrap(name: str, width: int) -> str:
    r"""Break a long name into lines of at most `width` characters, preferably after `_`, `.`, `|`.

    Examples:
        >>> wrap("per_class_vote_argmax", 12)
        'per_class_\nvote_argmax'
    """
    lines = textwrap.wrap(re.sub(r"(?<=[_.|])", " ", name), width)
    return "\n".join(re.sub(r"(?<=[_.|]) ", "", line) for line in lines)
