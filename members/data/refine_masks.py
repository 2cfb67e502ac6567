"""Grow coarse masks: unlabelled pixels on even ground take the label of the region they touch.

Annotators leave wide gaps between their polygons. Where the grey values around a pixel hardly vary,
it shows one kind of ground, and so does the region next to it.
"""

import numpy as np
from jaxtyping import Bool, Integer

from evaluation.core.blocks import map_blocks
from evaluation.core.classes import UNLABELLED
from evaluation.core.types import (
    Array,
    Images,
    Kept,
    Labels,
)
from members.data.cleaning.rules import clean

RADIUS_PX = 3
MAX_STD = 3.0
ROUNDS = 8

BLOCK_PIXELS = 1 << 19
"""Worked on at a time, so that memory stays flat for large images too."""

Even = Bool[np.ndarray, "image row col"]
Sums = Integer[np.ndarray, "image row col"]
Offsets = Integer[np.ndarray, "offset"]


def refine(
    images: Array,
    masks: Array,
    *,
    ignore: int | None,
    radius_px: int = RADIUS_PX,
    max_std: float = MAX_STD,
    rounds: int = ROUNDS,
) -> tuple[Labels, Kept]:
    """Grow the masks of a data set, block of images by block.

    Masks that many images share are left alone: they were pasted on foreign images, and grown
    they would no longer be alike, so that nobody could find them.

    Args:
        images: uint8, (image, channel, row, col); may be a memory map.
        masks: class index per pixel, (image, row, col).
        ignore: the class that counts as unlabelled beside 255; None where there is none.
        radius_px: see `grow`.
        max_std: see `grow`.
        rounds: see `grow`.

    Returns:
        The grown masks, and for each image whether it was grown at all.
    """
    kept = clean(np.asarray(masks))
    size = max(1, BLOCK_PIXELS // masks[0].size)

    def grown(block: slice) -> Labels:
        part = np.asarray(masks[block])
        larger = grow(
            np.asarray(images[block]),
            part,
            ignore=ignore,
            radius_px=radius_px,
            max_std=max_std,
            rounds=rounds,
        )
        return np.where(kept[block, None, None], larger, part)

    return np.concatenate(list(map_blocks(grown, len(masks), size=size))), kept


def grow(
    images: Images,
    masks: Labels,
    *,
    ignore: int | None,
    radius_px: int = RADIUS_PX,
    max_std: float = MAX_STD,
    rounds: int = ROUNDS,
) -> Labels:
    """Label unlabelled pixels on even ground, layer by layer from the labelled regions.

    In each round every unlabelled pixel that is even (see `even`) and has a labelled one above,
    below, left or right takes the label most frequent among the labelled pixels of its disc; of
    equally frequent ones the lowest. All pixels of a round see the labels of the round before. What
    is labelled never changes, and discs over an edge are not even, so no label crosses one.

    Args:
        images: uint8, (image, channel, row, col).
        masks: class index per pixel, (image, row, col); 255 and `ignore` are unlabelled.
        ignore: the class that counts as unlabelled beside 255; None where there is none.
        radius_px: of the disc, 1 or more.
        max_std: highest standard deviation of an even disc, in grey levels of 0 to 255.
        rounds: how many layers of one pixel at most; it ends earlier where nothing changes.
    """
    labelled = masks != UNLABELLED
    if ignore is not None:
        labelled &= masks != ignore
    start = even(images, radius_px, max_std) & ~labelled
    # With an unlabelled margin, discs are plain offsets into the flat array.
    sides = ((0, 0), (radius_px, radius_px), (radius_px, radius_px))
    labels = np.pad(np.where(labelled, masks, UNLABELLED), sides, constant_values=UNLABELLED)
    cols = labels.shape[-1]
    open_places = np.flatnonzero(np.pad(start, sides))
    flat = labels.reshape(-1)
    disc = _offsets(radius_px, cols)
    for _ in range(rounds):
        touching = _any_labelled(flat, open_places, _offsets(1, cols))
        if not touching.any():
            break
        front = open_places[touching]
        flat[front] = _majority(flat, front, disc)
        open_places = open_places[~touching]
    inside = labels[:, radius_px:-radius_px, radius_px:-radius_px]
    return np.where(inside != UNLABELLED, inside, masks)


def even(images: Images, radius_px: int, max_std: float) -> Even:
    """Tell where the grey values in a disc around the pixel vary little.

    The disc holds the pixels at most `radius_px` away that lie inside the image. In colour the
    channel that varies most decides: two grounds of the same brightness differ in one at least.

    Args:
        images: uint8, (image, channel, row, col).
        radius_px: of the disc, in pixels.
        max_std: highest standard deviation, in grey levels.
    """
    rows, cols = images.shape[-2:]
    size = _disc_sums(np.ones((1, rows, cols), np.int64), radius_px)
    limit = (max_std * size) ** 2
    result = np.ones((len(images), rows, cols), bool)
    for channel in np.moveaxis(images, 1, 0).astype(np.int64):
        total, squares = _disc_sums(channel, radius_px), _disc_sums(channel**2, radius_px)
        # Whole numbers: size**2 times the variance, exactly, and never below zero.
        result &= size * squares - total**2 <= limit
    return result


def _disc_sums(values: Sums, radius: int) -> Sums:
    """Sum over the part of each pixel's disc that lies inside the image."""
    _, rows, cols = values.shape
    sides = ((0, 0), (radius, radius), (radius + 1, radius))
    running = np.pad(values, sides).cumsum(axis=-1)
    result = np.zeros_like(values)
    for down, width in enumerate(_half_widths(radius)):
        row = running[:, down : down + rows]
        right, left = radius + 1 + width, radius - width
        result += row[..., right : right + cols] - row[..., left : left + cols]
    return result


def _half_widths(radius: int) -> list[int]:
    """How far a disc reaches left and right in each of its rows."""
    downs = np.arange(-radius, radius + 1)
    return [int(width) for width in np.sqrt(radius**2 - downs**2)]


def _offsets(radius: int, cols: int) -> Offsets:
    return np.concatenate(
        [
            (down - radius) * cols + np.arange(-width, width + 1)
            for down, width in enumerate(_half_widths(radius))
        ]
    )


def _any_labelled(flat: Array, places: Array, offsets: Offsets) -> Array:
    found: Array = (flat[places[:, None] + offsets] != UNLABELLED).any(axis=1)
    return found


def _majority(flat: Array, places: Array, offsets: Offsets) -> Array:
    around = flat[places[:, None] + offsets]
    found = np.unique(around)
    found = found[found != UNLABELLED]
    counts = np.stack([(around == label).sum(axis=1) for label in found])
    most: Array = found[counts.argmax(axis=0)]
    return most
