"""Shuffled, augmented batches of training images, from tensors on the device."""

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from evaluation.core.classes import UNLABELLED
from evaluation.core.types import Array, Labels, Shares
from members.augmentations import Augment

RARE = 0.1  # of the share that a class would have if all had the same


class BatchLoader:
    """Shuffled, augmented batches; the draws of an epoch follow from its number and the seed.

    Args:
        images: uint8 (image, channel, row, col), on the device or, where they would fill it,
            beside it.
        target: uint8 (image, row, col), in the same place.
        drawn: indices of the images of an epoch, some more than once.
        batch: images a step, at most.
        augment: changes each batch.
        seed: decides the draws.
        device: where batches are wanted.
    """

    def __init__(
        self,
        images: Tensor,
        target: Tensor,
        drawn: Array,
        *,
        batch: int,
        augment: Augment,
        seed: int,
        device: str,
    ) -> None:
        self._images, self._target, self._drawn = images, target, drawn
        self._augment, self._seed, self._device = augment, seed, device
        self.steps = -(-len(drawn) // batch)

    def epoch(self, number: int) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield the batches of one epoch, on the device."""
        rng = np.random.default_rng((self._seed, number))
        order = torch.from_numpy(rng.permutation(self._drawn)).to(self._images.device)
        # Batches of equal size, so that no batch holds a single image (its variance is 0).
        for chosen in order.tensor_split(self.steps):
            images, target = self._augment(self._images[chosen], self._target[chosen], rng)
            yield images.to(self._device), target.to(self._device)


def class_shares(target: Labels, classes: int) -> Shares:
    """Return the share of each class in the labelled pixels."""
    counted = np.bincount(target[target != UNLABELLED].ravel(), minlength=classes)[:classes]
    shares: Shares = counted / max(1, counted.sum())
    return shares


def oversampled(target: Labels, shares: Array, *, ignore: int | None, times: int) -> Array:
    """Return the indices of the images, those that hold a rare class `times` times.

    A class is rare below a tenth of an equal share of the pixels (2 % among 5 classes).
    """
    rare = [
        label
        for label, share in enumerate(shares)
        if label != ignore and 0 < share < RARE / len(shares)
    ]
    holds = np.isin(target, rare).any(axis=(1, 2))
    return np.repeat(np.arange(len(target)), np.where(holds, times, 1))
