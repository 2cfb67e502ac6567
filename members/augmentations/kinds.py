"""The two kinds of augmentation."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from torch import Tensor

Augmentation = Callable[[Tensor, Tensor, np.random.Generator], tuple[Tensor, Tensor]]
"""From uint8 pictures (picture, channel, row, col), uint8 masks (picture, row, col) and a source of
chance to the same again, changed; same shapes, same device. What is given stays as it is."""


@dataclass(frozen=True)
class Ground:
    """What off-line augmentations know of the training set.

    Args:
        classes: how many there are in the masks.
        device: where to compute.
        batch: pictures a step.
    """

    classes: int
    device: str
    batch: int


class OffLine(ABC):
    """Draws additional training pairs once, from the training part of a fold alone.

    They stay in that part, so they have their origin's group and fold by construction.
    """

    @abstractmethod
    def draw(
        self, pictures: Tensor, masks: Tensor, ground: Ground, rng: np.random.Generator
    ) -> tuple[Tensor, Tensor]:
        """Return the pairs to add; shapes and types as those given, any number of them."""
