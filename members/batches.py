"""Shuffled, augmented batches of training images."""

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from evaluation.core.classes import UNLABELLED
from evaluation.core.types import Array, Labels, Shares
from members.augmentations.augment import Augment

RARE_CLASS_SHARE = 0.1  # of 1 / classes, the share of each class if all were equally frequent


class BatchLoader:
    """Shuffled, augmented batches; random draws depend on the seed and the epoch's number.

    Args:
        images: uint8 (image, channel, row, col), on the device or on the CPU.
        target: uint8 (image, row, col), on the same device as the images.
        indices: of the images of an epoch, with repetitions.
        batch: maximum number of images per step; one more where a single image would remain that
            the network does not take.
        augment: applied to each batch.
        seed: of all random draws.
        device: of the batches.
        smallest: number of images that the network needs per step.
    """

    def __init__(
        self,
        images: Tensor,
        target: Tensor,
        indices: Array,
        *,
        batch: int,
        augment: Augment,
        seed: int,
        device: str,
        smallest: int = 1,
    ) -> None:
        self._images, self._target, self._indices = images, target, indices
        self._augment, self._seed, self._device = augment, seed, device
        self.steps = max(1, min(-(-len(indices) // batch), len(indices) // smallest))

    def epoch(self, number: int) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield the batches of one epoch."""
        rng = np.random.default_rng((self._seed, number))
        order = torch.from_numpy(rng.permutation(self._indices)).to(self._images.device)
        # Of equal size: as many images as possible share each step's statistics.
        for batch in order.tensor_split(self.steps):
            images, target = self._augment(self._images[batch], self._target[batch], rng)
            yield images.to(self._device), target.to(self._device)


def class_shares(target: Labels, classes: int) -> Shares:
    """Return the fraction of the labelled pixels, per class."""
    counts = np.bincount(target[target != UNLABELLED].ravel(), minlength=classes)[:classes]
    shares: Shares = counts / max(1, counts.sum())
    return shares


def oversampled(target: Labels, shares: Array, *, ignore: int | None, times: int) -> Array:
    """Return the indices of the images, with those that contain a rare class repeated.

    A class is rare below a tenth of an equal share of the pixels (2 % among 5 classes).

    Args:
        target: class index per pixel, (image, row, col).
        shares: fraction of the pixels, per class.
        ignore: the ignored class, or None.
        times: how often images with a rare class occur.

    Examples:
        >>> target = np.array([[[0, 0]], [[0, 1]]], np.uint8)
        >>> oversampled(target, np.array([0.99, 0.01]), ignore=None, times=3)
        array([0, 1, 1, 1])
    """
    rare = [
        label
        for label, share in enumerate(shares)
        if label != ignore and 0 < share < RARE_CLASS_SHARE / len(shares)
    ]
    has_rare = np.isin(target, rare).any(axis=(1, 2))
    return np.repeat(np.arange(len(target)), np.where(has_rare, times, 1))
