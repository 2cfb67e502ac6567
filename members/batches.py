"""Shuffled, augmented batches of training images."""

from collections.abc import Callable, Iterator

import numpy as np
import torch
from torch import Tensor

from evaluation.core.ragged import Stack
from evaluation.core.types import Array, Shares
from members.augmentations.augment import Augment
from members.data.dataset import class_pixels

RARE_CLASS_SHARE = 0.1  # of 1 / classes, the share of each class if all were equally frequent


Reader = Callable[[Array, np.random.Generator], tuple[Tensor, Tensor]]
"""From indices of images to the images and their target."""


def read_from(images: Tensor, target: Tensor) -> Reader:
    """Return a reader of images of one size, as they are."""

    def read(indices: Array, _: np.random.Generator) -> tuple[Tensor, Tensor]:
        chosen = torch.from_numpy(indices).to(images.device)
        return images[chosen], target[chosen]

    return read


class BatchLoader:
    """Shuffled, augmented batches; random draws depend on the seed and the epoch's number.

    Args:
        read: returns images (image, channel, row, col) and target (image, row, col) at some
            indices, on the device or on the CPU.
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
        read: Reader,
        indices: Array,
        *,
        batch: int,
        augment: Augment,
        seed: int,
        device: str,
        smallest: int = 1,
    ) -> None:
        self._read, self._indices = read, indices
        self._augment, self._seed, self._device = augment, seed, device
        self.steps = max(1, min(-(-len(indices) // batch), len(indices) // smallest))

    def epoch(self, number: int) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield the batches of one epoch."""
        rng = np.random.default_rng((self._seed, number))
        order = rng.permutation(self._indices)
        # Of equal size: as many images as possible share each step's statistics.
        for batch in np.array_split(order, self.steps):
            images, target = self._augment(*self._read(batch, rng), rng)
            yield images.to(self._device), target.to(self._device)


def class_shares(target: Stack, classes: int) -> Shares:
    """Return the fraction of the labelled pixels, per class."""
    counts = class_pixels(target, classes).sum(axis=0)
    shares: Shares = counts / max(1, counts.sum())
    return shares


def oversampled(target: Stack, shares: Array, *, ignore: int | None, times: int) -> Array:
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
    has_rare = (class_pixels(target, len(shares))[:, rare] > 0).any(axis=1)
    return np.repeat(np.arange(len(target)), np.where(has_rare, times, 1))
