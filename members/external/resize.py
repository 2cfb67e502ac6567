"""Resize maps to the size of their images.

Pixels are squares that cover the image: their outer edges are aligned, not the centres of the
corner pixels (`align_corners=False` in PyTorch). So a map at stride 4 has its first value at the
centre of the first 4 x 4 pixels.
"""

import numpy as np

from evaluation.core.ragged import Size
from evaluation.core.types import Array

CONVENTION = "bilinear, align_corners=False"


def is_scaled(given: Size, expected: Size) -> bool:
    """Return whether one factor makes both sides equal, but for rounding up or down.

    A side that is equal already leaves the factor 1: a row too few was cut off, not rounded away.

    Examples:
        >>> is_scaled((23, 30), (180, 240)), is_scaled((23, 40), (180, 240))
        (True, False)
        >>> is_scaled((180, 239), (180, 240))
        False
    """
    sides = list(zip(given, expected, strict=True))
    if any(side == full for side, full in sides):
        return given == expected
    lowest = max((side - 1) / full for side, full in sides)
    highest = min((side + 1) / full for side, full in sides)
    return lowest < highest


def bilinear(values: Array, size: Size) -> Array:
    """Return values (..., row, col) at another size, by linear interpolation along both axes.

    Examples:
        >>> bilinear(np.array([[0.0, 1.0]]), (1, 4))
        array([[0.  , 0.25, 0.75, 1.  ]])
    """
    for axis, length in ((-2, size[0]), (-1, size[1])):
        given = values.shape[axis]
        if given == length:
            continue
        at = np.clip((np.arange(length) + 0.5) * (given / length) - 0.5, 0, given - 1)
        low = np.floor(at).astype(np.intp)
        weight = (at - low).astype(values.dtype).reshape((-1, 1) if axis == -2 else (-1,))
        lower = values.take(low, axis)
        upper = values.take(np.minimum(low + 1, given - 1), axis)
        values = lower + weight * (upper - lower)
    return values


def nearest(labels: Array, size: Size, step: int = 1) -> Array:
    """Return labels (..., row, col) at another size, those of the nearest pixels.

    Args:
        labels: of any type.
        size: rows and columns of the result.
        step: take only every so many rows and columns of the result.

    Examples:
        >>> nearest(np.array([[1, 2]]), (1, 4))
        array([[1, 1, 2, 2]])
    """
    rows, cols = (
        np.minimum((np.arange(0, length, step) + 0.5) * given // length, given - 1).astype(np.intp)
        for given, length in zip(labels.shape[-2:], size, strict=True)
    )
    return labels[..., rows[:, None], cols]
