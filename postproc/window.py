"""Square windows around each pixel, cut where the picture ends."""

from typing import Annotated

import numpy as np
from jaxtyping import Bool, Shaped, UInt16
from pydantic import AfterValidator, Field
from pydantic_core import PydanticCustomError

MAX_SIZE = 255


def _odd(size: int) -> int:
    if size % 2 == 0:
        raise PydanticCustomError("odd", "an odd number of pixels")
    return size


OddSize = Annotated[int, Field(ge=1, le=MAX_SIZE), AfterValidator(_odd)]


def window_counts(
    mask: Bool[np.ndarray, "picture row col"], size: int
) -> UInt16[np.ndarray, "picture row col"]:
    """Count the pixels of the mask in the window around each pixel.

    Args:
        mask: the pixels to count.
        size: side of the window in pixels, odd, up to 255; what lies beyond the border counts not.
    """
    return _summed(_summed(mask, size, axis=2), size, axis=1)


def _summed(
    values: Shaped[np.ndarray, "picture row col"], size: int, *, axis: int
) -> UInt16[np.ndarray, "picture row col"]:
    # Running sums may pass 65535 and wrap around; differences within a window (at most 255 squared)
    # come out right all the same.
    sums = np.cumsum(values, axis=axis, dtype=np.uint16)
    sums = np.insert(sums, 0, 0, axis=axis)
    places = np.arange(values.shape[axis])
    after = np.minimum(places + size // 2 + 1, len(places))
    before = np.maximum(places - size // 2, 0)
    return np.take(sums, after, axis=axis) - np.take(sums, before, axis=axis)
