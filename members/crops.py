"""Random crops of training images, so that images of any sizes make batches."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.random import Generator
from torch import Tensor
from torch.nn import functional

from evaluation.core.classes import UNLABELLED
from evaluation.core.ragged import Size
from evaluation.core.types import Array

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

    images: Sequence[Tensor]
    target: Sequence[Tensor]
    size: Size
    weights: Array

    @classmethod
    def create(
        cls,
        images: Sequence[Tensor],
        target: Sequence[Tensor],
        size: Size,
        *,
        shares: Sequence[float],
        ignore: int | None,
    ) -> "RandomCrops":
        """Return the crops of images whose classes have these shares of the pixels."""
        wanted = np.array([share**-0.5 if share > 0 else 0.0 for share in shares])
        if ignore is not None:
            wanted[ignore] = 0
        held = [torch.bincount(one.flatten(), minlength=UNLABELLED + 1) > 0 for one in target]
        weights = torch.stack(held)[:, : len(shares)].cpu().numpy() * wanted
        total = weights.sum(axis=1, keepdims=True)
        return cls(images, target, size, weights / np.where(total > 0, total, 1))

    def __call__(self, indices: Sequence[int], rng: Generator) -> tuple[Tensor, Tensor]:
        """Return a crop of each of these images, stacked."""
        pairs = [self._crop(index, rng) for index in indices]
        images, target = zip(*pairs, strict=True)
        return torch.stack(images), torch.stack(target)

    def _crop(self, index: int, rng: Generator) -> tuple[Tensor, Tensor]:
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
        self, index: int, target: Tensor, rng: Generator
    ) -> tuple[int, int] | None:
        weights = self.weights[index]
        if not weights.any():
            return None
        label = rng.choice(len(weights), p=weights)
        flat = torch.nonzero(target.flatten() == int(label)).flatten()
        position = int(flat[int(rng.integers(len(flat)))])
        return divmod(position, target.shape[1])


def padded(image: Tensor, target: Tensor, size: Size) -> tuple[Tensor, Tensor]:
    """Extend an image below and to the right to at least a size."""
    down, right = (max(0, side - n) for side, n in zip(size, target.shape, strict=True))
    if not down and not right:
        return image, target
    values = image[None] if image.is_floating_point() else image[None].float()
    repeated = functional.pad(values, (0, right, 0, down), mode="replicate")[0].to(image.dtype)
    return repeated, functional.pad(target, (0, right, 0, down), value=UNLABELLED)
