"""Masks in colours: each pixel has the colour that a table gives its class."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from evaluation.core.errors import BadLabels
from evaluation.core.types import Array
from members.data.image_files import is_in_colours, read_image, read_mask

MAX_SHOWN = 3


def read_mask_or_colours(file: Path, colours: Sequence[str] = ()) -> Array:
    """Read a mask that holds class indices, or one of the given colours per pixel.

    Three equal channels are one: some programs save grey levels so.

    Args:
        file: see `read_labels`.
        colours: `#rrggbb` of each value, from 0 upwards; empty where masks hold class indices.

    Returns:
        uint8, (row, col); in colours, the position in the table.

    Raises:
        BadData: see `read_labels`.
        BadLabels: see `read_mask`; also colours without a table, or outside it.
    """
    if not is_in_colours(file):
        return read_mask(file)
    pixels = read_image(file)
    if pixels.dtype != np.uint8:
        raise BadLabels(f"{file} has {pixels.dtype} colours; expected 8 bits per channel")
    if not colours:
        if (pixels == pixels[..., :1]).all():
            return np.ascontiguousarray(pixels[..., 0])
        raise BadLabels(
            f"{file} has mode RGB; expected class indices, one per pixel, or a table of the colours"
            " (--colours FILE: a name and a colour per line)"
        )
    return _values_of_colours(file, pixels, colours)


def _values_of_colours(file: Path, pixels: Array, colours: Sequence[str]) -> Array:
    codes = pixels.astype(np.uint32) @ np.array([1 << 16, 1 << 8, 1], np.uint32)
    table = np.array([int(colour[1:], 16) for colour in colours], np.uint32)
    if len(np.unique(table)) < len(table):
        repeated = next(c for c in colours if sum(c.lower() == o.lower() for o in colours) > 1)
        raise BadLabels(f"colour {repeated} stands for two classes; expected distinct colours")
    order = np.argsort(table)
    position = np.searchsorted(table[order], codes).clip(max=len(table) - 1)
    values = order[position]
    outside = table[values] != codes
    if outside.any():
        shown = ", ".join(f"#{code:06x}" for code in np.unique(codes[outside])[:MAX_SHOWN])
        raise BadLabels(
            f"{file} holds {shown} in {int(outside.sum())} pixels; expected one of the"
            f" {len(table)} colours of the table: add a line for it"
        )
    return np.asarray(values, np.uint8)
