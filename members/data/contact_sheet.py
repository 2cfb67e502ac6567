"""A contact sheet: images and label maps side by side in class colours, for visual inspection."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType

import numpy as np
from jaxtyping import UInt8
from PIL import Image, ImageColor, ImageDraw

from evaluation.core.arrays import view_image
from evaluation.core.classes import UNLABELLED, Classes
from evaluation.core.files import atomic_file
from evaluation.core.types import Array, Labels

GAP_PX = 4
LINE_PX, FONT_PX = 22, 16
WIDTH_PX = 200
BACKGROUND_COLOUR, TEXT_COLOUR, UNLABELLED_COLOUR = "#ffffff", "#222222", "#999999"
MARK_COLOUR = ImageColor.getrgb("#ff2a2a")

ColourImage = UInt8[np.ndarray, "row col 3"]


def write_sheet(
    path: Path,
    images: Sequence[Array] | Array,
    columns: Mapping[str, Sequence[Array] | Labels],
    *,
    classes: Classes,
    captions: Sequence[str],
    opacity: float = 1.0,
    marked: Mapping[str, Sequence[Array]] = MappingProxyType({}),
) -> None:
    """Write a PNG with one row per image: the image itself, each label map, marked pixels.

    Args:
        path: of the PNG.
        images: (channel, row, col) each, of any sizes.
        columns: label maps by heading, (row, col) each; 255 is drawn grey.
        classes: their colours and names, for the legend in the first line.
        captions: a line per image.
        opacity: of the label maps; below 1 the image shines through.
        marked: pixels by heading, bool, (row, col) each; drawn red over the darkened image.
    """
    colour = [view_image(np.asarray(image)) for image in images]
    panels = {"image": colour}
    for name, labels in columns.items():
        panels[name] = [
            (opacity * _paint(np.asarray(one), classes) + (1 - opacity) * image)
            .round()
            .astype(np.uint8)
            for one, image in zip(labels, colour, strict=True)
        ]
    for name, pixels in marked.items():
        panels[name] = [
            np.where(one[..., None], MARK_COLOUR, image // 2).astype(np.uint8)
            for one, image in zip(pixels, colour, strict=True)
        ]
    enlarged = {name: [_enlarge(image) for image in panel] for name, panel in panels.items()}
    width = max(image.width for image in enlarged["image"]) + GAP_PX
    heights = [image.height + LINE_PX + GAP_PX for image in enlarged["image"]]
    size = (GAP_PX + width * len(panels), 2 * LINE_PX + GAP_PX + sum(heights))
    sheet = Image.new("RGB", size, BACKGROUND_COLOUR)
    draw = ImageDraw.Draw(sheet)
    _draw_legend(draw, classes)
    tops = np.cumsum([2 * LINE_PX, *heights]).tolist()
    for column, (name, panel) in enumerate(enlarged.items()):
        left = GAP_PX + column * width
        fitting = min(1, (width - GAP_PX) / draw.textlength(name, font_size=FONT_PX))
        draw.text((left, LINE_PX), name, fill=TEXT_COLOUR, font_size=fitting * FONT_PX)
        for image, top in zip(panel, tops, strict=False):
            sheet.paste(image, (left, top + LINE_PX))
    for caption, top in zip(captions, tops, strict=False):
        draw.text((GAP_PX, top), caption, fill=TEXT_COLOUR, font_size=FONT_PX)
    with atomic_file(path) as partial:
        sheet.save(partial, format="PNG", optimize=True)


def _enlarge(pixels: ColourImage) -> Image.Image:
    rows, cols = pixels.shape[:2]
    scale = WIDTH_PX / cols if cols > 2 * WIDTH_PX else max(1, round(WIDTH_PX / cols))
    size = max(1, round(cols * scale)), max(1, round(rows * scale))
    return Image.fromarray(pixels).resize(size, Image.Resampling.NEAREST)


def _paint(labels: Array, classes: Classes) -> ColourImage:
    table = np.empty((UNLABELLED + 1, 3), np.uint8)
    table[:] = ImageColor.getrgb(UNLABELLED_COLOUR)
    table[: len(classes)] = [ImageColor.getrgb(colour) for colour in classes.colours]
    colours: ColourImage = table[labels]
    return colours


def _draw_legend(draw: ImageDraw.ImageDraw, classes: Classes) -> None:
    left = GAP_PX
    for name, colour in zip(classes.names, classes.colours, strict=True):
        draw.rectangle((left, 5, left + 12, 17), fill=colour, outline=TEXT_COLOUR)
        draw.text((left + 18, 0), name, fill=TEXT_COLOUR, font_size=FONT_PX)
        left += 36 + int(draw.textlength(name, font_size=FONT_PX))
