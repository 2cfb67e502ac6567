"""The two kinds of augmentation.

Draws that several augmentations make: some of the images, a rectangle in each.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from evaluation.core.types import Array

Augmentation = Callable[[Tensor, Tensor, np.random.Generator], tuple[Tensor, Tensor]]
"""From uint8 images (image, channel, row, col), uint8 masks (image, row, col) and a source of
chance to the same again, changed; same shapes, same device. What is given stays as it is."""


@dataclass(frozen=True)
class TrainingContext:
    """What off-line augmentations know of the training set.

    Args:
        classes: how many there are in the masks.
        device: where to compute.
        batch: images a step.
    """

    classes: int
    device: str
    batch: int


class OfflineAugmentation(ABC):
    """Draws additional training pairs once, from the training part of a fold alone.

    They stay in that part, so they have their origin's group and fold by construction.
    """

    @abstractmethod
    def draw(
        self, images: Tensor, masks: Tensor, ground: TrainingContext, rng: np.random.Generator
    ) -> tuple[Tensor, Tensor]:
        """Return the pairs to add; shapes and types as those given, any number of them."""


def bernoulli_mask(probability: float, images: Tensor, rng: np.random.Generator) -> Tensor:
    """Draw which images are changed: true or false an image, on the images' device."""
    return torch.from_numpy(rng.random(len(images)) < probability).to(images.device)


def rectangles(masks: Tensor, heights: Array, widths: Array, rng: np.random.Generator) -> Tensor:
    """Draw a rectangle for each mask, its middle at any pixel, cut off at the borders.

    Args:
        masks: (image, row, col), for their shape and device.
        heights: one an image, in whole pixels.
        widths: one an image, in whole pixels.
        rng: where the middles come from.

    Returns:
        True inside, (image, row, col).
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
