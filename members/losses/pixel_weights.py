"""Which pixels a loss looks at, and how much the ignored class weighs.

Weights of classes: none, given, or against their frequency in the training pixels.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Literal

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from evaluation.core.classes import UNLABELLED
from evaluation.core.errors import BadSpec
from evaluation.core.types import Shares

IgnoredWeight = Annotated[float, Field(ge=0, le=1)]
"""0 leaves the ignored class out by pixel, 1 learns it like any other."""


def valid_mask(target: Tensor, ignore: int | None) -> Tensor:
    """Tell which pixels count: labelled, and not of the ignored class. Boolean, shape of target."""
    kept = target != UNLABELLED
    return kept if ignore is None else kept & (target != ignore)


@dataclass(frozen=True)
class PixelWeights:
    """The weight of pixels and classes in a loss.

    A pixel of the ignored class weighs `ignored_weight` in every sum over pixels, an unlabelled
    one 0, any other 1. In a mean over classes the ignored class weighs `ignored_weight`, any other
    1. So 0 leaves the class out of both, and 1 is as if no class were ignored.

    Args:
        ignore: the ignored class, or None.
        ignored_weight: 0 to 1.
    """

    ignore: int | None
    ignored_weight: float

    def pixels(self, logits: Tensor, target: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Clear what does not count.

        Args:
            logits: (image, class, row, col).
            target: (image, row, col).

        Returns:
            Logits in float32; labels; and the weight of each pixel. Where the weight is 0, logits
            and label are 0 too, so that not even NaN gets through.
        """
        weights = (target != UNLABELLED).float()
        if self.ignore is not None:
            weights = torch.where(target == self.ignore, self.ignored_weight * weights, weights)
        out = weights == 0
        cleared = logits.float().masked_fill(out[:, None], 0)
        return cleared, target.long().masked_fill(out, 0), weights

    def flat(self, logits: Tensor, target: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Gather the pixels that count.

        Args:
            logits: (image, class, row, col).
            target: (image, row, col).

        Returns:
            Logits (class, pixel) in float32, labels (pixel) and weights (pixel); empty where no
            pixel counts.
        """
        cleared, labels, weights = self.pixels(logits, target)
        counts = weights > 0
        return cleared.movedim(1, 0)[:, counts], labels[counts], weights[counts]

    def classes(self, logits: Tensor) -> Tensor:
        """Return the weight of each class in a mean over the classes that the logits have."""
        weights = torch.ones(logits.shape[1], device=logits.device)
        if self.ignore is not None:
            weights[self.ignore] = self.ignored_weight
        return weights


def mean_or_zero(values: Tensor, weights: Tensor) -> Tensor:
    """Return the weighted mean; 0, with a gradient of 0, where the weights sum to 0."""
    return (values * weights).sum() / weights.sum().clamp_min(torch.finfo(values.dtype).tiny)


ClassWeights = Literal["none", "frequency"] | list[float]


def class_weights(
    weights: ClassWeights, frequencies: Shares, ignore: int | None, *, power: float = 1.0
) -> Tensor:
    """Return one weight a class.

    Args:
        weights: `none`, one number a class, or `frequency`: (median frequency / frequency), the
            median over the scored classes, so that the class in the middle weighs 1.
        frequencies: share of each class in the training pixels.
        ignore: the ignored class, or None.
        power: frequency weights are raised to it.

    Raises:
        BadSpec: not one number from 0 a class, or all 0.

    Source: median frequency balancing by Eigen and Fergus, "Predicting Depth, Surface Normals and
        Semantic Labels with a Common Multi-Scale Convolutional Architecture", 2015.
    """
    values = np.ones(len(frequencies))
    if weights == "frequency":
        values = _by_frequency(frequencies, ignore) ** power
    elif weights != "none":
        values = _given(weights, len(frequencies))
    return torch.tensor(values, dtype=torch.float32)


def _by_frequency(frequencies: Shares, ignore: int | None) -> Shares:
    scored = [label for label in range(len(frequencies)) if label != ignore]
    median = np.median([frequencies[label] for label in scored if frequencies[label] > 0] or [1.0])
    # A class without a pixel has no loss to weigh.
    return np.where(frequencies > 0, median / np.maximum(frequencies, 1e-12), 0.0)


def _given(weights: Sequence[float], classes: int) -> Shares:
    if len(weights) != classes or min(weights) < 0 or max(weights) == 0:
        raise BadSpec(f"option 'weights' got {list(weights)}; expected {classes} numbers from 0")
    return np.array(weights, dtype=float)
