"""Random crops of training images, so that images of any sizes make batches."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.random import Generator

from evaluation.core.classes import UNLABELLED
from evaluation.core.ragged import Size
from evaluation.core.types import Array
from members.batches import ChosenImages

RARE_SHARE = 0.5
"""Share of the crops that are placed on a class drawn for its rarity; the others are uniform."""


@dataclass(frozen=True)
class RandomCrops:
    """Training images that are read by crops of one size.

    Half of the crops hold a pixel of a class that the image has, drawn with a probability
    proportional to one over the root of its share of all pixels, so that rare classes are learnt;
    the others lie anywhere. What a crop takes beyond the edge of a smaller image repeats the edge,
    and is unlabelled.

    Args:
        images: (channel, row, col) each.
        target: (row, col) each.
        size: rows and columns of a crop, in pixels.
        weights: of the classes in each image, (image, class), summing to 1; 0 for classes that
            are not looked for, and for all of an image that has none of them.
    """

    images: Sequence[Array] | ChosenImages
    target: Sequence[Array] | ChosenImages
    size: Size
    weights: Array

    @classmethod
    def create(
        cls,
        images: Sequence[Array] | ChosenImages,
        target: Sequence[Array] | ChosenImages,
        size: Size,
        *,
        pixels: Array,
        ignore: int | None,
    ) -> "RandomCrops":
        """Return the crops of images.

        Args:
            images: (channel, row, col) each; may be read when asked for.
            target: (row, col) each.
            size: rows and columns of a crop, in pixels.
            pixels: of each class in each image, (image, class).
            ignore: the ignored class, or None.
        """
        shares = pixels.sum(axis=0) / max(1, pixels.sum())
        wanted = np.array([share**-0.5 if share > 0 else 0.0 for share in shares.tolist()])
        if ignore is not None:
            wanted[ignore] = 0
        weights = (pixels > 0) * wanted
        total = weights.sum(axis=1, keepdims=True)
        return cls(images, target, size, weights / np.where(total > 0, total, 1))

    def __call__(self, indices: Sequence[int], rng: Generator) -> tuple[Array, Array]:
        """Return a crop of each of these images, stacked."""
        pairs = [self._crop(index, rng) for index in indices]
        images, target = zip(*pairs, strict=True)
        return np.stack(images), np.stack(target)

    def _crop(self, index: int, rng: Generator) -> tuple[Array, Array]:
        image, target = padded(self.images[index], self.target[index], self.size)
        limits = [length - side for length, side in zip(target.shape, self.size, strict=True)]
        top, left = (int(rng.integers(limit + 1)) for limit in limits)
        if any(limits) and rng.random() < RARE_SHARE:
            pixel = self._pixel_of_rare_class(index, target, rng)
            if pixel is not None:
                inside = [int(rng.integers(side)) for side in self.size]
                top, left = (
                    min(max(0, position - shift), limit)
                    for position, shift, limit in zip(pixel, inside, limits, strict=True)
                )
        window = (slice(top, top + self.size[0]), slice(left, left + self.size[1]))
        return image[(slice(None), *window)], target[window]

    def _pixel_of_rare_class(
        self, index: int, target: Array, rng: Generator
    ) -> tuple[int, int] | None:
        weights = self.weights[index]
        if not weights.any():
            return None
        label = rng.choice(len(weights), p=weights)
        flat = np.flatnonzero(target == label)
        position = int(flat[int(rng.integers(len(flat)))])
        row, col = divmod(position, target.shape[1])
        return row, int(col)


def padded(image: Array, target: Array, size: Size) -> tuple[Array, Array]:
    """Extend an image below and to the right to at least a size."""
    margins = [(0, max(0, side - n)) for side, n in zip(size, target.shape, strict=True)]
    if not any(after for _, after in margins):
        return image, target
    labels = np.pad(target, margins, constant_values=UNLABELLED)
    return np.pad(image, [(0, 0), *margins], mode="edge"), labels
