"""Soft targets: a teacher's probability maps, as a student learns from them (distillation).

A student reads images with further channels behind their own: 255 times the tempered probability of
each class, 0 in all where the teacher is not confident enough, and a last channel that is 255 in
images without labels. Augmentations that move pixels so move all of them together.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from evaluation.core.blocks import blocks
from evaluation.core.classes import UNLABELLED
from evaluation.core.errors import BadData
from evaluation.core.files import create_stack, open_stack
from evaluation.core.ragged import Extent, Ragged, Stack, extent_of
from evaluation.core.types import Array, Map
from members.data.dataset import DataSet
from members.maps import MapReader

WHOLE = 255
"""A probability of 1."""

TRAINING, UNLABELLED_IMAGES = "training.npy", "unlabelled.npy"


@dataclass(frozen=True)
class SoftTargets:
    """Soft targets of training images, and of images without labels.

    Args:
        of_training: uint8, (image, class + 1, row, col); see the module.
        images: those without labels, or None.
        of_images: their soft targets, or None.
    """

    of_training: Stack
    images: Stack | None = None
    of_images: Stack | None = None

    @classmethod
    def open(cls, folder: Path, training: DataSet, unlabelled: DataSet | None) -> "SoftTargets":
        """Open what `write_soft_targets` wrote for these images."""
        channels = (len(training.classes) + 1,)
        own = open_stack(folder / TRAINING, training.extent, channels)
        if unlabelled is None:
            return cls(own)
        others = open_stack(folder / UNLABELLED_IMAGES, unlabelled.extent, channels)
        return cls(own, unlabelled.images, others)

    @property
    def num_unlabelled(self) -> int:
        """Number of images without labels."""
        return 0 if self.images is None else len(self.images)

    def with_unlabelled(self, images: Stack, target: Stack) -> tuple[Stack, Stack]:
        """Return training images with soft targets and their labels, then those without labels.

        Args:
            images: of the training set, (image, channel, row, col).
            target: of it; images without labels get 255 everywhere.
        """
        if self.images is None or self.of_images is None:
            return WithChannels(images, self.of_training), target
        nothing = _constant(extent_of(self.images), UNLABELLED)
        both = WithChannels(
            _chained(images, self.images), _chained(self.of_training, self.of_images)
        )
        return both, _chained(target, nothing)


class WithChannels:
    """Images with further channels behind their own, both read when they are needed.

    Args:
        images: (image, channel, row, col).
        added: (image, channel, row, col) of the same sizes; values of 0 to 255.

    Examples:
        >>> images, added = np.zeros((3, 1, 2, 2), np.uint8), np.ones((3, 2, 2, 2), np.uint8)
        >>> both = WithChannels(images, added)
        >>> both.shape, both[0].shape, both[np.array([2, 0])].shape
        ((3, 3, 2, 2), (3, 2, 2), (2, 3, 2, 2))
    """

    def __init__(self, images: Stack, added: Stack) -> None:
        if extent_of(images).sizes != extent_of(added).sizes:
            raise BadData(
                f"images of {extent_of(images)} and soft targets of {extent_of(added)}; expected"
                " the same sizes"
            )
        self._images, self._added = images, added
        self.extent: Extent = extent_of(images)
        """Number and sizes of the images."""
        channels = images.shape[1] + added.shape[1]
        self.dtype = images.dtype
        self.shape = (images.shape[0], channels, *images.shape[2:])
        self.ndim = images.ndim

    def __len__(self) -> int:
        """Return the number of images."""
        return len(self._images)

    def __getitem__(self, key: Any) -> Array:
        """Return an image, or images of one size by a slice or indices."""
        images, added = np.asarray(self._images[key]), np.asarray(self._added[key])
        return np.concatenate([images, added.astype(images.dtype)], axis=-3)


def write_soft_targets(
    folder: Path,
    training: tuple[MapReader, Extent],
    unlabelled: tuple[MapReader, Extent] | None,
    *,
    temperature: float,
    confidence: float,
) -> None:
    """Write a teacher's maps as soft targets, block by block.

    Args:
        folder: gets the files.
        training: maps of the training images, and their sizes.
        unlabelled: maps of images without labels, and their sizes, or None.
        temperature: see `tempered`.
        confidence: pixels whose largest probability is lower have no soft target.
    """
    given = [(TRAINING, training, 0)]
    if unlabelled is not None:
        given.append((UNLABELLED_IMAGES, unlabelled, WHOLE))
    for name, (reader, extent), last in given:
        channels = (reader.num_classes + 1,)
        stack = create_stack(folder / name, dtype=np.uint8, extent=extent, channels=channels)
        for block in blocks(extent):
            maps = reader.read(block)
            soft = np.rint(WHOLE * tempered(maps, temperature))
            soft *= maps.max(axis=1, keepdims=True) >= confidence
            whole = np.full_like(soft[:, :1], last)
            stack[block] = np.concatenate([soft, whole], axis=1).astype(np.uint8)
        stack.flush()


def tempered(maps: Map, temperature: float) -> Map:
    """Return maps as their logits divided by a temperature would give them: p^(1/T), normalised.

    Args:
        maps: probabilities (image, class, row, col).
        temperature: 1 changes nothing; above 1 less probable classes count more.

    References:
        Hinton, Vinyals and Dean, "Distilling the Knowledge in a Neural Network", 2015.

    Examples:
        >>> tempered(np.array([0.8, 0.2], np.float32).reshape(1, 2, 1, 1), 2.0).ravel().round(3)
        array([0.667, 0.333], dtype=float32)
    """
    powers = maps ** np.float32(1 / temperature)
    result: Map = powers / np.maximum(powers.sum(axis=1, keepdims=True), 1e-12)
    return result


def _chained(first: Stack, second: Stack) -> Ragged:
    parts: list[Array] = []
    for stack in (first, second):
        parts += stack.parts if isinstance(stack, Ragged) else [stack]
    return Ragged(parts)


def _constant(extent: Extent, value: int) -> Stack:
    """Return label maps that hold one value and take no memory."""
    parts: Sequence[Array] = [
        np.broadcast_to(np.uint8(value), (count, *size)) for count, size in extent.runs
    ]
    return Ragged(parts)
