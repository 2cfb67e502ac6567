"""Which pixels and classes count in a loss, and with what weight."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Literal

import numpy as np
import torch
from pydantic import Field
from torch import Tensor
from torch.nn import functional

from evaluation.core.classes import UNLABELLED
from evaluation.core.errors import BadSpec
from evaluation.core.types import Shares

IgnoredWeight = Annotated[float, Field(ge=0, le=1)]
"""Weight of the ignored class, for its pixels and for its own term in means over classes: 0 leaves
both out, 1 trains it like any other class."""

ClassWeights = Literal["none", "frequency"] | list[float]


@dataclass(frozen=True)
class PixelWeights:
    """The weights of pixels and classes in a loss.

    Unlabelled pixels have weight 0, pixels of the ignored class `ignored_weight`, others 1. In a
    mean over classes the ignored class has weight `ignored_weight`, any other 1.
    """

    ignore: int | None
    ignored_weight: float

    def mask(self, logits: Tensor, target: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Set logits and labels to 0 where the weight is 0, so that not even NaN gets through.

        Args:
            logits: (image, class, row, col).
            target: (image, row, col).

        Returns:
            Logits in float32, labels, and the weight of each pixel.
        """
        weights = (target != UNLABELLED).float()
        if self.ignore is not None:
            weights = torch.where(target == self.ignore, self.ignored_weight * weights, weights)
        out = weights == 0
        masked = logits.float().masked_fill(out[:, None], 0)
        return masked, target.long().masked_fill(out, 0), weights

    def select(self, logits: Tensor, target: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Select the pixels with a weight above 0; arguments as of `mask`.

        Returns:
            Logits (class, pixel) in float32, labels (pixel) and weights (pixel); may be empty.
        """
        masked, labels, weights = self.mask(logits, target)
        counts = weights > 0
        return masked.movedim(1, 0)[:, counts], labels[counts], weights[counts]

    def of_classes(self, logits: Tensor) -> Tensor:
        """Return the weight of each class in a mean over classes."""
        weights = torch.ones(logits.shape[1], device=logits.device)
        if self.ignore is not None:
            weights[self.ignore] = self.ignored_weight
        return weights


def valid_mask(target: Tensor, ignore: int | None) -> Tensor:
    """Return where pixels are labelled and not of the ignored class."""
    valid = target != UNLABELLED
    return valid if ignore is None else valid & (target != ignore)


def one_hot(target: Tensor, classes: int, valid: Tensor) -> Tensor:
    """Return labels (image, row, col) as (image, class, row, col) in float32, 0 where not valid."""
    labels = torch.where(valid, target, 0).long()
    return (functional.one_hot(labels, classes).movedim(-1, 1) * valid[:, None]).float()


def mean_or_zero(values: Tensor, weights: Tensor) -> Tensor:
    """Return the weighted mean; 0, with a gradient of 0, where the weights sum to 0."""
    return (values * weights).sum() / weights.sum().clamp_min(torch.finfo(values.dtype).tiny)


def class_weights(
    weights: ClassWeights, frequencies: Shares, ignore: int | None, *, power: float = 1.0
) -> Tensor:
    """Return one weight per class.

    Args:
        weights: `none`, one number per class, or `frequency`: (median frequency / frequency) with
            the median over the scored classes, so that the median class has weight 1.
        power: exponent of frequency weights.

    Raises:
        BadSpec: not one non-negative number per class, or all 0.

    References:
        Median frequency balancing: Eigen and Fergus, "Predicting Depth, Surface Normals and
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
    # A class without a pixel has no loss to weight.
    return np.where(frequencies > 0, median / np.maximum(frequencies, 1e-12), 0.0)


def _given(weights: Sequence[float], classes: int) -> Shares:
    if len(weights) != classes or min(weights) < 0 or max(weights) == 0:
        raise BadSpec(
            f"option 'weights' got {list(weights)}; expected {classes} numbers from 0, not all 0"
        )
    return np.array(weights, dtype=float)
