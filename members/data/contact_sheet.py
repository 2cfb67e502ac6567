"""A contact sheet: images and label maps side by side in class colours, for visual inspection."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType

import numpy as np
from jaxtyping import UInt8
from PIL import Image, ImageColor, ImageDraw

from evaluation.core.classes import UNLABELLED, Classes
from evaluation.core.files import atomic_file
from evaluation.core.types import Array, Labels

GAP_PX = 4
LINE_PX, FONT_PX = 22, 16
WIDTH_PX = 200
BACKGROUND_COLOUR, TEXT_COLOUR, UNLABELLED_COLOUR = "#ffffff", "#222222", "#999999"
MARK_COLOUR = ImageColor.getrgb("#ff2a2a")

ColourImages = UInt8[np.ndarray, "image row col 3"]


def write_sheet(
    path: Path,
    images: Array,
    columns: Mapping[str, Labels],
    *,
    classes: Classes,
    captions: Sequence[str],
    opacity: float = 1.0,
    marked: Mapping[str, Array] = MappingProxyType({}),
) -> None:
    """Write a PNG with one row per image: the image itself, each label map, marked pixels.

    Args:
        path: of the PNG.
        images: uint8, (image, channel, row, col).
        columns: label maps by heading, (image, row, col); 255 is drawn grey.
        classes: their colours and names, for the legend in the first line.
        captions: a line per image.
        opacity: of the label maps; below 1 the image shines through.
        marked: pixels by heading, bool, (image, row, col); drawn red over the darkened image.
    """
    colour = _to_colour(images)
    panels = {"image": colour}
    for name, labels in columns.items():
        painted = _paint(labels, classes)
        panels[name] = (opacity * painted + (1 - opacity) * colour).round().astype(np.uint8)
    for name, pixels in marked.items():
        panels[name] = np.where(pixels[..., None], MARK_COLOUR, colour // 2).astype(np.uint8)
    _, _, rows, cols = images.shape
    scale = max(1, round(WIDTH_PX / cols))
    width, height = cols * scale + GAP_PX, rows * scale + LINE_PX + GAP_PX
    size = (GAP_PX + width * len(panels), 2 * LINE_PX + GAP_PX + height * len(images))
    sheet = Image.new("RGB", size, BACKGROUND_COLOUR)
    draw = ImageDraw.Draw(sheet)
    _draw_legend(draw, classes)
    for column, (name, panel) in enumerate(panels.items()):
        left = GAP_PX + column * width
        fitting = min(1, (width - GAP_PX) / draw.textlength(name, font_size=FONT_PX))
        draw.text((left, LINE_PX), name, fill=TEXT_COLOUR, font_size=fitting * FONT_PX)
        for row, pixels in enumerate(panel):
            enlarged = Image.fromarray(pixels).resize(
                (cols * scale, rows * scale), Image.Resampling.NEAREST
            )
            sheet.paste(enlarged, (left, 3 * LINE_PX + row * height))
    for row, caption in enumerate(captions):
        top = 2 * LINE_PX + row * height
        draw.text((GAP_PX, top), caption, fill=TEXT_COLOUR, font_size=FONT_PX)
    with atomic_file(path) as partial:
        sheet.save(partial, format="PNG", optimize=True)


def _to_colour(images: Array) -> ColourImages:
    channels_last = np.moveaxis(np.asarray(images), 1, -1)
    return np.ascontiguousarray(np.broadcast_to(channels_last, (*channels_last.shape[:-1], 3)))


def _paint(labels: Labels, classes: Classes) -> ColourImages:
    table = np.empty((UNLABELLED + 1, 3), np.uint8)
    table[:] = ImageColor.getrgb(UNLABELLED_COLOUR)
    table[: len(classes)] = [ImageColor.getrgb(colour) for colour in classes.colours]
    colours: ColourImages = table[labels]
    return colours


def _draw_legend(draw: ImageDraw.ImageDraw, classes: Classes) -> None:
    left = GAP_PX
    for name, colour in zip(classes.names, classes.colours, strict=True):
        draw.rectangle((left, 5, left + 12, 17), fill=colour, outline=TEXT_COLOUR)
        draw.text((left + 18, 0), name, fill=TEXT_COLOUR, font_size=FONT_PX)
        left += 36 + int(draw.textlength(name, font_size=FONT_PX))
