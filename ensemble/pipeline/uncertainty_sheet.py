"""A contact sheet of what an ensemble is unsure of: picture, truth, guess, entropy, quarrel."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from evaluation.ground.arrays import Array
from evaluation.ground.classes import UNLABELLED, Classes

WIDTH_IN, GAP_IN, HEAD_IN, DPI = 3.0, 0.08, 0.65, 100
IN_LEGEND = 8
MOST = 0.995
CAPTION_SHARE = 0.22
"""Height of a caption's line as a share of the picture's."""

NO_LABEL = "#999999"
NATS = "nats, 0 to {:.2f}"


@dataclass(frozen=True)
class Unsure:
    """One picture and what is drawn beside it.

    Args:
        caption: a line above it.
        picture: uint8, (channel, row, col).
        truth: class indices (row, col), 255 where there is none; None where nothing is known.
        guess: class indices.
        entropy: of the mean map, in nats.
        mutual: information, in nats.
    """

    caption: str
    picture: Array
    truth: Array | None
    guess: Array
    entropy: Array
    mutual: Array


def draw_sheet(path: Path, pictures: Sequence[Unsure], classes: Classes) -> None:
    """Write a PNG with a row a picture.

    Heat goes from 0 to what entropy can reach, the logarithm of the number of classes. Mutual
    information rarely comes near: its heat ends where all but a few pixels of the sheet lie below.

    Args:
        path: where to.
        pictures: in the order of the rows.
        classes: their colours and names.
    """
    columns = {"picture": [_grey_or_colour(one.picture) for one in pictures]}
    if pictures[0].truth is not None:
        columns["truth"] = [_painted(one.truth, classes) for one in pictures]
    columns["guess"] = [_painted(one.guess, classes) for one in pictures]
    high = float(np.log(len(classes)))
    columns[f"entropy ({NATS.format(high)})"] = [_heat(one.entropy, high) for one in pictures]
    high = float(np.quantile([one.mutual for one in pictures], MOST)) or 1.0
    columns[f"mutual information ({NATS.format(high)})"] = [
        _heat(one.mutual, high) for one in pictures
    ]
    figure, axes = _laid_out(pictures, len(columns))
    for (title, panels), place in zip(columns.items(), axes, strict=True):
        _stack(place, panels, title)
    axes[0].set_zorder(1)  # captions reach over the next column
    for number, one in enumerate(pictures):
        top = (number + 1) * _pitch(len(one.guess)) - len(one.guess)
        axes[0].text(0, top - 2, one.caption, fontsize=8, va="bottom")
    patches = [
        Patch(facecolor=colour, edgecolor="black", label=name)
        for name, colour in zip(classes.names, classes.colours, strict=True)
    ]
    figure.legend(handles=patches, loc="upper left", ncols=IN_LEGEND, frameon=False)
    figure.savefig(path, format="png", dpi=DPI)


def _laid_out(pictures: Sequence[Unsure], columns: int) -> tuple[Figure, list[Axes]]:
    """Return a figure with a column of pictures each below a head of legend and titles."""
    rows, cols = pictures[0].guess.shape
    below = WIDTH_IN * _pitch(rows) * len(pictures) / cols
    wide, high = columns * (WIDTH_IN + GAP_IN) + GAP_IN, below + HEAD_IN + GAP_IN
    figure = Figure(figsize=(wide, high))
    lefts = [GAP_IN + column * (WIDTH_IN + GAP_IN) for column in range(columns)]
    boxes = [(left / wide, GAP_IN / high, WIDTH_IN / wide, below / high) for left in lefts]
    return figure, [figure.add_axes(box) for box in boxes]


def _stack(axes: Axes, panels: Sequence[Array], title: str) -> None:
    """Draw panels below each other as one image, which is much faster than an axis each."""
    rows, cols, _ = panels[0].shape
    paper = np.ones((_pitch(rows) * len(panels), cols, 3))
    for number, panel in enumerate(panels):
        bottom = (number + 1) * _pitch(rows)
        paper[bottom - rows : bottom] = panel
    axes.imshow(paper, interpolation="nearest")
    axes.set_title(title, fontsize=9)
    axes.set_axis_off()


def _pitch(rows: int) -> int:
    return rows + max(1, round(CAPTION_SHARE * rows))


def _grey_or_colour(picture: Array) -> Array:
    last = np.moveaxis(picture, 0, -1) / 255
    return np.broadcast_to(last, (*last.shape[:2], 3))


def _painted(labels: Array | None, classes: Classes) -> Array:
    table = np.full((UNLABELLED + 1, 3), to_rgb(NO_LABEL))
    table[: len(classes)] = [to_rgb(colour) for colour in classes.colours]
    colours: Array = table[labels]
    return colours


def _heat(values: Array, high: float) -> Array:
    from matplotlib import colormaps

    coloured: Array = colormaps["magma"](np.clip(values / high, 0, 1))[..., :3]
    return coloured
