"""Draws that several augmentations make: some of the pictures, a rectangle in each."""

import numpy as np
import torch
from torch import Tensor

from evaluation.ground.arrays import Array


def drawn(probability: float, pictures: Tensor, rng: np.random.Generator) -> Tensor:
    """Draw which pictures are changed: true or false a picture, on the pictures' device."""
    return torch.from_numpy(rng.random(len(pictures)) < probability).to(pictures.device)


def rectangles(masks: Tensor, heights: Array, widths: Array, rng: np.random.Generator) -> Tensor:
    """Draw a rectangle for each mask, its middle at any pixel, cut off at the borders.

    Args:
        masks: (picture, row, col), for their shape and device.
        heights: one a picture, in whole pixels.
        widths: one a picture, in whole pixels.
        rng: where the middles come from.

    Returns:
        True inside, (picture, row, col).
    """
    rows, cols = masks.shape[1:]
    inside_rows = _stretch(rows, heights, rng).to(masks.device)
    inside_cols = _stretch(cols, widths, rng).to(masks.device)
    return inside_rows[:, :, None] & inside_cols[:, None, :]


def _stretch(length: int, sizes: Array, rng: np.random.Generator) -> Tensor:
    starts = rng.integers(length, size=len(sizes)) - sizes // 2
    places = np.arange(length)
    return torch.from_numpy(
        (places >= starts[:, None]) & (places < (starts + sizes)[:, None]),
    )
