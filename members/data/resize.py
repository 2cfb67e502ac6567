"""Pictures and masks of another size: pictures by area, masks by the nearest pixel."""

import numpy as np
from PIL import Image

from evaluation.ground.arrays import Array

Size = tuple[int, int]
"""Rows and columns, in pixels."""


def resize_picture(picture: Array, size: Size) -> Array:
    """Resize a uint8 picture, (row, col) or (row, col, 3), each pixel the mean of its area.

    Rows and columns are averaged in turn, each time rounded: up to 1 level from the exact mean.
    """
    return _resized(picture, size, Image.Resampling.BOX)


def resize_mask(mask: Array, size: Size) -> Array:
    """Resize one uint8 mask, (row, col); no label comes up that was not there before."""
    return _resized(mask, size, Image.Resampling.NEAREST)


def _resized(picture: Array, size: Size, how: Image.Resampling) -> Array:
    if picture.shape[:2] == size:
        return picture
    rows, cols = size
    return np.asarray(Image.fromarray(np.ascontiguousarray(picture)).resize((cols, rows), how))
