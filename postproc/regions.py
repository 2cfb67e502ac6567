"""Regions of label maps: connected pixels of one label, found for a whole block at once."""

from typing import Literal

import numpy as np
from jaxtyping import Bool, Int
from scipy import ndimage

from evaluation.ground.arrays import Labels
from evaluation.ground.classes import UNLABELLED

Connectivity = Literal[1, 2]


def present(labels: Labels) -> list[int]:
    """List the labels that occur."""
    found: list[int] = np.flatnonzero(np.bincount(labels.ravel())).tolist()
    return found


def connected(
    mask: Bool[np.ndarray, "picture row col"], *, connectivity: Connectivity = 1
) -> Int[np.ndarray, "picture row col"]:
    """Number the connected parts of a mask from 1 on; 0 is outside of it.

    Args:
        mask: of a block; parts of different pictures are never one.
        connectivity: 1 joins pixels that share a side, 2 also those that share a corner.
    """
    neighbours = np.zeros((3, 3, 3), dtype=bool)
    neighbours[1] = ndimage.generate_binary_structure(2, connectivity)
    numbers: Int[np.ndarray, "picture row col"]
    numbers, _ = ndimage.label(mask, structure=neighbours)
    return numbers


def nearest_label(labels: Labels, missing: Bool[np.ndarray, "picture row col"]) -> Labels:
    """Give missing pixels the label of the nearest other pixel of their picture.

    Near by steps along rows and columns; of several equally near, the lowest label. Thus a pixel
    always joins a region that was there. A picture of which everything is missing stays as it is.

    Args:
        labels: uint8.
        missing: the pixels whose label does not count.
    """
    pictures, rows, cols = labels.shape
    # Nobody's pixels hold 255, higher than any label, so that the lowest neighbour is a minimum.
    padded = np.full((pictures, rows + 2, cols + 2), UNLABELLED, dtype=np.uint8)
    inside = padded[:, 1:-1, 1:-1]
    np.copyto(inside, labels, where=~missing)
    while True:
        beside = np.minimum(padded[:, 1:-1, :-2], padded[:, 1:-1, 2:])
        above = np.minimum(padded[:, :-2, 1:-1], padded[:, 2:, 1:-1])
        found = np.minimum(beside, above)
        reached = (inside == UNLABELLED) & (found != UNLABELLED)
        if not reached.any():
            return np.where(inside == UNLABELLED, labels, inside)
        np.copyto(inside, found, where=reached)
