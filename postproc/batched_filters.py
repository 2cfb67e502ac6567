"""OpenCV filters on a block of images in one call, and blocks cut to the size of the cache.

The images of a block are stacked into one tall image, with rows between them that keep a window
from reaching into the next image.
"""

from collections.abc import Callable
from typing import Annotated

import cv2
import numpy as np
from jaxtyping import Shaped, UInt8
from pydantic import AfterValidator, Field
from pydantic_core import PydanticCustomError

from evaluation.core.blocks import blocks

MAX_SIZE = 255
PIECE_VALUES = 1 << 18

Block = Shaped[np.ndarray, "image row col"]
Bytes = UInt8[np.ndarray, "image row col"]
Kernel = UInt8[np.ndarray, "side side"]
StackedImage = Shaped[np.ndarray, "height width"]


def _odd(size: int) -> int:
    if size % 2 == 0:
        raise PydanticCustomError("odd", "an odd number of pixels")
    return size


OddSize = Annotated[int, Field(ge=1, le=MAX_SIZE), AfterValidator(_odd)]
"""Side of a square window with a centre pixel."""


def erode(block: Bytes, size: int) -> Bytes:
    """Return the minimum over the square around each pixel, cropped at the image border."""
    kernel = square_kernel(size)
    return filter_images(block, lambda image: cv2.erode(image, kernel), gap=size // 2, fill=255)


def dilate(block: Bytes, size: int) -> Bytes:
    """Return the maximum over the square around each pixel, cropped at the image border."""
    kernel = square_kernel(size)
    return filter_images(block, lambda image: cv2.dilate(image, kernel), gap=size // 2, fill=0)


def filter_images(
    block: Block, operation: Callable[[StackedImage], StackedImage], *, gap: int, fill: int
) -> Block:
    """Apply an operation on one image to every image of the block; see `stack_images`."""
    stacked = stack_images(block, gap=gap, fill=fill)
    return operation(as_image(stacked)).reshape(stacked.shape)[:, : block.shape[1]]


def stack_images(block: Block, *, gap: int, fill: int) -> Shaped[np.ndarray, "image taller col"]:
    """Return the block with extra rows after each image.

    Args:
        block: any type.
        gap: number of rows; half the side of the window that will be applied.
        fill: their value, and so the value beyond the upper and lower border of the images.
    """
    images, rows, cols = block.shape
    stacked = np.full((images, rows + gap, cols), fill, dtype=block.dtype)
    stacked[:, :rows] = block
    return stacked


def as_image(stacked: Block) -> StackedImage:
    """View the output of `stack_images` as one image that OpenCV accepts."""
    values = stacked.view(np.uint8) if stacked.dtype == bool else stacked
    return values.reshape(-1, stacked.shape[2])


def square_kernel(size: int) -> Kernel:
    """Return a square structuring element."""
    return np.ones((size, size), np.uint8)


def apply_by_pieces(
    values: Shaped[np.ndarray, "image ..."],
    operation: Callable[[Shaped[np.ndarray, "_ ..."]], Shaped[np.ndarray, "_ ..."]],
) -> Shaped[np.ndarray, "image ..."]:
    """Apply an operation that keeps shape and type to a few images at a time.

    Intermediate arrays then stay in the cache and in memory that is reused. Those of a whole block
    would be mapped and cleared by the system each time, at several times the cost of the work.

    Args:
        values: maps or labels.
        operation: treats every image independently.
    """
    result = np.empty_like(values)
    for piece in blocks(len(values), max(1, PIECE_VALUES // values[0].size)):
        result[piece] = operation(values[piece])
    return result
