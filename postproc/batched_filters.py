"""A block of images as one tall image, which OpenCV filters in one call.

Sides of square windows that have a middle.

Blocks of images cut into pieces that the processor's cache holds.
"""

from collections.abc import Callable
from typing import Annotated

import cv2
import numpy as np
from jaxtyping import Shaped, UInt8
from pydantic import AfterValidator, Field
from pydantic_core import PydanticCustomError

from evaluation.core.blocks import blocks

Block = Shaped[np.ndarray, "image row col"]
Bytes = UInt8[np.ndarray, "image row col"]
Kernel = UInt8[np.ndarray, "side side"]
TallImage = Shaped[np.ndarray, "height width"]


def stacked(block: Block, *, gap: int, fill: int) -> Shaped[np.ndarray, "image taller col"]:
    """Return the block with rows of `fill` after each image, so that none sees the next.

    Args:
        block: of any type.
        gap: how many rows; half the side of the window that will go over it.
        fill: what stands in them, and so beyond the images' lower and upper border.
    """
    images, rows, cols = block.shape
    tall = np.full((images, rows + gap, cols), fill, dtype=block.dtype)
    tall[:, :rows] = block
    return tall


def filtered(
    block: Block, operation: Callable[[TallImage], TallImage], *, gap: int, fill: int
) -> Block:
    """Apply an operation on one image to each image of the block; see `stacked`."""
    tall = stacked(block, gap=gap, fill=fill)
    return operation(as_image(tall)).reshape(tall.shape)[:, : block.shape[1]]


def as_image(tall: Block) -> TallImage:
    """Return what `stacked` gave as one image that OpenCV takes; the same memory."""
    values = tall.view(np.uint8) if tall.dtype == bool else tall
    return values.reshape(-1, tall.shape[2])


def square(size: int) -> Kernel:
    """Return a square window of that side."""
    return np.ones((size, size), np.uint8)


def lowest(block: Bytes, size: int) -> Bytes:
    """Return the minimum in the square around each pixel, cut where the image ends."""
    return filtered(block, lambda tall: cv2.erode(tall, square(size)), gap=size // 2, fill=255)


def highest(block: Bytes, size: int) -> Bytes:
    """Return the maximum in the square around each pixel, cut where the image ends."""
    return filtered(block, lambda tall: cv2.dilate(tall, square(size)), gap=size // 2, fill=0)


MAX_SIZE = 255


def _odd(size: int) -> int:
    if size % 2 == 0:
        raise PydanticCustomError("odd", "an odd number of pixels")
    return size


OddSize = Annotated[int, Field(ge=1, le=MAX_SIZE), AfterValidator(_odd)]


PIECE = 1 << 18


def by_pieces(
    values: Shaped[np.ndarray, "image ..."],
    operation: Callable[[Shaped[np.ndarray, "_ ..."]], Shaped[np.ndarray, "_ ..."]],
) -> Shaped[np.ndarray, "image ..."]:
    """Apply an operation that keeps shape and type to some images at a time.

    Intermediate arrays then stay in the cache and in memory that is used again, whereas the system
    maps and clears those of a whole block anew each time, at several times the work's own cost.

    Args:
        values: maps or labels.
        operation: treats each image as if it were alone.
    """
    result = np.empty_like(values)
    for piece in blocks(len(values), max(1, PIECE // values[0].size)):
        result[piece] = operation(values[piece])
    return result
