"""A contact sheet: images and label maps side by side in class colours, to look at by eye."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from jaxtyping import UInt8
from PIL import Image, ImageColor, ImageDraw

from evaluation.core.classes import UNLABELLED, Classes
from evaluation.core.files import atomic_file
from evaluation.core.types import Array, Labels

GAP_PX = 4
LINE_PX = 16
WIDTH_PX = 200
PAPER, INK, NO_LABEL = "#ffffff", "#222222", "#999999"

Coloured = UInt8[np.ndarray, "image row col 3"]


def write_sheet(
    path: Path,
    images: Array,
    columns: Mapping[str, Labels],
    *,
    classes: Classes,
    captions: Sequence[str],
    opacity: float = 1.0,
) -> None:
    """Write a PNG with one row an image: the image itself, then each label map.

    Args:
        path: where to.
        images: uint8, (image, channel, row, col).
        columns: label maps by heading, (image, row, col); 255 is drawn grey.
        classes: their colours and names, which stand in the first line.
        captions: a line an image.
        opacity: of the label maps; below 1 the image shines through.
    """
    seen = _as_colour(images)
    panels = {"image": seen}
    for name, labels in columns.items():
        painted = _painted(labels, classes)
        panels[name] = (opacity * painted + (1 - opacity) * seen).round().astype(np.uint8)
    _, _, rows, cols = images.shape
    times = max(1, round(WIDTH_PX / cols))
    wide, high = cols * times + GAP_PX, rows * times + LINE_PX + GAP_PX
    size = (GAP_PX + wide * len(panels), 2 * LINE_PX + GAP_PX + high * len(images))
    sheet = Image.new("RGB", size, PAPER)
    draw = ImageDraw.Draw(sheet)
    _legend(draw, classes)
    for column, (name, panel) in enumerate(panels.items()):
        left = GAP_PX + column * wide
        draw.text((left, LINE_PX + 2), name, fill=INK)
        for row, pixels in enumerate(panel):
            top = 2 * LINE_PX + row * high
            large = Image.fromarray(pixels).resize(
                (cols * times, rows * times), Image.Resampling.NEAREST
            )
            sheet.paste(large, (left, top + LINE_PX))
    for row, caption in enumerate(captions):
        draw.text((GAP_PX, 2 * LINE_PX + row * high + 2), caption, fill=INK)
    with atomic_file(path) as partial:
        sheet.save(partial, format="PNG", optimize=True)


def _as_colour(images: Array) -> Coloured:
    last = np.moveaxis(np.asarray(images), 1, -1)
    return np.ascontiguousarray(np.broadcast_to(last, (*last.shape[:-1], 3)))


def _painted(labels: Labels, classes: Classes) -> Coloured:
    table = np.empty((UNLABELLED + 1, 3), np.uint8)
    table[:] = ImageColor.getrgb(NO_LABEL)
    table[: len(classes)] = [ImageColor.getrgb(colour) for colour in classes.colours]
    colours: Coloured = table[labels]
    return colours


def _legend(draw: ImageDraw.ImageDraw, classes: Classes) -> None:
    left = GAP_PX
    for name, colour in zip(classes.names, classes.colours, strict=True):
        draw.rectangle((left, 4, left + 8, 12), fill=colour, outline=INK)
        draw.text((left + 12, 2), name, fill=INK)
        left += 24 + int(draw.textlength(name))
