"""Grow coarse masks: unlabelled pixels in homogeneous regions take the label next to them.

Annotators leave wide gaps between their polygons. Where the grey values around a pixel hardly vary,
it shows one kind of terrain, and so does the region next to it.
"""

import numpy as np
from jaxtyping import Bool, Integer

from evaluation.core.blocks import map_blocks
from evaluation.core.classes import UNLABELLED
from evaluation.core.ragged import Stack, extent_of, join
from evaluation.core.types import Array, Images, Kept, Labels

RADIUS_PX = 3
MAX_STD = 3.0
ROUNDS = 8

BLOCK_PIXELS = 1 << 19
"""Processed at a time, so that memory stays flat for large images too."""

Sums = Integer[np.ndarray, "image row col"]
Offsets = Integer[np.ndarray, "offset"]


def refine(
    images: Stack,
    masks: Stack,
    *,
    ignore: int | None,
    radius_px: int = RADIUS_PX,
    max_std: float = MAX_STD,
    rounds: int = ROUNDS,
) -> tuple[Stack, Kept]:
    """Grow the masks of a data set, block by block; see `grow`.

    Masks that many images share are left alone: they were pasted on unrelated images, and once
    grown they would differ, so that nothing could detect them.

    Args:
        images: uint8, (image, channel, row, col); may be a memory map.
        masks: class index per pixel, (image, row, col).
        ignore: the class that counts as unlabelled besides 255; None where there is none.
        radius_px: see `grow`.
        max_std: see `grow`.
        rounds: see `grow`.

    Returns:
        The grown masks, and for each image whether its mask may grow at all.
    """
    from members.data.cleaning.rules import drop_shared_masks

    growing, extent = drop_shared_masks(masks), extent_of(masks)
    size = max(1, BLOCK_PIXELS // max(rows * cols for _, (rows, cols) in extent.runs))

    def grow_block(block: slice) -> Labels:
        part = np.asarray(masks[block])
        grown = grow(
            np.asarray(images[block]),
            part,
            ignore=ignore,
            radius_px=radius_px,
            max_std=max_std,
            rounds=rounds,
        )
        return np.where(growing[block, None, None], grown, part)

    return join(list(map_blocks(grow_block, extent, size=size))), growing


def grow(
    images: Images,
    masks: Labels,
    *,
    ignore: int | None,
    radius_px: int = RADIUS_PX,
    max_std: float = MAX_STD,
    rounds: int = ROUNDS,
) -> Labels:
    """Label unlabelled pixels in homogeneous regions, layer by layer from the labelled ones.

    In each round every unlabelled pixel that is homogeneous (see `is_homogeneous`) and has a
    labelled one above, below, left or right takes the most frequent label of its disc; of equally
    frequent ones the lowest. All pixels of a round see the labels of the round before. Labelled
    pixels never change, and discs over an edge are not homogeneous, so no label crosses one.

    Args:
        images: uint8, (image, channel, row, col).
        masks: class index per pixel, (image, row, col); 255 and `ignore` are unlabelled.
        ignore: the class that counts as unlabelled besides 255; None where there is none.
        radius_px: of the disc, 1 or more.
        max_std: highest standard deviation of a homogeneous disc, in grey levels of 0 to 255.
        rounds: maximum number of layers of one pixel; it ends earlier where nothing changes.

    Examples:
        >>> masks = np.array([[[1, 255, 255, 255]]], np.uint8)
        >>> grow(np.zeros((1, 1, 1, 4), np.uint8), masks, ignore=None, rounds=2)
        array([[[  1,   1,   1, 255]]], dtype=uint8)
    """
    labelled = masks != UNLABELLED
    if ignore is not None:
        labelled &= masks != ignore
    growable = is_homogeneous(images, radius_px, max_std) & ~labelled
    # With an unlabelled margin, discs are plain offsets into the flat array.
    margin = ((0, 0), (radius_px, radius_px), (radius_px, radius_px))
    labels = np.pad(np.where(labelled, masks, UNLABELLED), margin, constant_values=UNLABELLED)
    cols = labels.shape[-1]
    pending = np.flatnonzero(np.pad(growable, margin))
    flat = labels.reshape(-1)
    disc, neighbours = _offsets(radius_px, cols), _offsets(1, cols)
    for _ in range(rounds):
        touching = (flat[pending[:, None] + neighbours] != UNLABELLED).any(axis=1)
        if not touching.any():
            break
        front = pending[touching]
        flat[front] = _majority(flat, front, disc)
        pending = pending[~touching]
    inside = labels[:, radius_px:-radius_px, radius_px:-radius_px]
    return np.where(inside != UNLABELLED, inside, masks)


def is_homogeneous(
    images: Images, radius_px: int, max_std: float
) -> Bool[np.ndarray, "image row col"]:
    """Return where the grey values in a disc around the pixel vary little.

    The disc holds the pixels at most `radius_px` away that lie inside the image. In colour the
    channel that varies most decides: terrains of the same brightness differ in one at least.

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
    margin = ((0, 0), (radius, radius), (radius + 1, radius))
    running = np.pad(values, margin).cumsum(axis=-1)
    result = np.zeros_like(values)
    for down, width in enumerate(_half_widths(radius)):
        row = running[:, down : down + rows]
        right, left = radius + 1 + width, radius - width
        result += row[..., right : right + cols] - row[..., left : left + cols]
    return result


def _half_widths(radius: int) -> list[int]:
    """Return how far a disc reaches left and right in each of its rows."""
    downs = np.arange(-radius, radius + 1)
    return [int(width) for width in np.sqrt(radius**2 - downs**2)]


def _offsets(radius: int, cols: int) -> Offsets:
    """Return the positions of a disc's pixels in a flat image, relative to its centre."""
    return np.concatenate(
        [
            (down - radius) * cols + np.arange(-width, width + 1)
            for down, width in enumerate(_half_widths(radius))
        ]
    )


def _majority(flat: Array, positions: Array, offsets: Offsets) -> Array:
    discs = flat[positions[:, None] + offsets]
    labels = np.unique(discs)
    labels = labels[labels != UNLABELLED]
    counts = np.stack([(discs == label).sum(axis=1) for label in labels])
    majority: Array = labels[counts.argmax(axis=0)]
    return majority
