"""Shuffled, augmented batches of training images, read from memory maps as they are needed."""

import math
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor

from evaluation.core.blocks import blocks
from evaluation.core.ragged import Extent, Stack, extent_of
from evaluation.core.types import Array, Shares
from members.augmentations.augment import Augment
from members.data.dataset import class_pixels
from members.devices import send
from members.network import as_tensor

RARE_CLASS_SHARE = 0.1  # of 1 / classes, the share of each class if all were equally frequent


class ChosenImages:
    """Some images of a stack, (image, ..., row, col), read from it whenever they are needed.

    It reads like an array along the first axis, so that memory does not grow with the number of
    images where the stack is a memory map.

    Args:
        stack: all images.
        indices: of the chosen ones, ascending.
        change: applied to what is read, such as to labels; keeps the shape.

    Examples:
        >>> chosen = ChosenImages(np.arange(12).reshape(4, 1, 3), np.array([1, 3]))
        >>> len(chosen), chosen[np.array([1, 0, 1])][:, 0].tolist()
        (2, [[9, 10, 11], [3, 4, 5], [9, 10, 11]])
    """

    def __init__(
        self, stack: Stack, indices: Array, change: Callable[[Array], Array] | None = None
    ) -> None:
        self._stack, self._indices, self._change = stack, indices, change
        self.extent: Extent = extent_of(stack).take(indices)
        """Number and sizes of the images."""
        self.dtype, self.shape = stack.dtype, (len(indices), *stack.shape[1:])

    def __len__(self) -> int:
        """Return the number of images."""
        return len(self._indices)

    @property
    def nbytes(self) -> int:
        """Size in memory, if all were read."""
        values = self.extent.pixels * math.prod(self.shape[1:-2])
        return int(values * self.dtype.itemsize)

    def __getitem__(self, key: Any) -> Array:
        """Return an image, or images of one size by a slice or indices."""
        if isinstance(key, int | np.integer):
            image = np.asarray(self._stack[int(self._indices[key])])
            return image if self._change is None else self._change(image[None])[0]
        images = np.asarray(self._stack[self._indices[key]])
        return images if self._change is None else self._change(images)

    def on_device(self, device: str) -> Tensor:
        """Return all images, of one size, as a tensor on a device."""
        parts = [as_tensor(self[block]).to(device) for block in blocks(self.extent)]
        return torch.cat(parts)


Images = Tensor | ChosenImages
"""Images of one size on a device, or of any sizes in a memory map."""

Reader = Callable[[Array, np.random.Generator], tuple[Tensor, Tensor]]
"""From indices of images to the images and their target."""


def read_from(images: Images, target: Images) -> Reader:
    """Return a reader of images of one size, as they are."""
    return lambda indices, _: (read_images(images, indices), read_images(target, indices))


def read_images(images: Images, key: Any) -> Tensor:
    """Return images of one size, by indices or a slice; those of 16 bits as float32."""
    if isinstance(images, Tensor):
        if not isinstance(key, slice):
            key = send(torch.from_numpy(key), images.device)
        return images[key]
    return as_tensor(images[key])


class BatchLoader:
    """Shuffled, augmented batches; random draws depend on the seed and the epoch's number.

    Args:
        read: returns images (image, channel, row, col) and target (image, row, col) at some
            indices, on the device or on the CPU, from where they are sent to the device.
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
        # Of two sizes at most: as many images as possible share each step's statistics.
        for batch in np.array_split(order, self.steps):
            images, target = self._read(batch, rng)
            yield self._augment(send(images, self._device), send(target, self._device), rng)


def class_shares(target: Stack, classes: int) -> Shares:
    """Return the fraction of the labelled pixels, per class."""
    return shares_of(class_pixels(target, classes))


def shares_of(pixels: Array) -> Shares:
    """Return the fraction of the labelled pixels, per class, of counts (image, class)."""
    counts = pixels.sum(axis=0)
    shares: Shares = counts / max(1, counts.sum())
    return shares


def oversampled(pixels: Array, *, ignore: int | None, times: int) -> Array:
    """Return the indices of the images, with those that contain a rare class repeated.

    A class is rare below a tenth of an equal share of the pixels (2 % among 5 classes).

    Args:
        pixels: of each class, (image, class).
        ignore: the ignored class, or None.
        times: how often images with a rare class occur.

    Examples:
        >>> oversampled(np.array([[50, 0], [49, 1]]), ignore=None, times=3)
        array([0, 1, 1, 1])
    """
    shares = shares_of(pixels)
    rare = [
        label
        for label, share in enumerate(shares)
        if label != ignore and 0 < share < RARE_CLASS_SHARE / len(shares)
    ]
    has_rare = (pixels[:, rare] > 0).any(axis=1)
    return np.repeat(np.arange(len(pixels)), np.where(has_rare, times, 1))
