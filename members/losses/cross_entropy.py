"""Cross-entropy: the negative log-likelihood of the true class."""

from collections.abc import Sequence
from typing import Annotated, Literal

import numpy as np
import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional

from evaluation.ground.arrays import Shares
from evaluation.ground.classes import UNLABELLED
from evaluation.ground.errors import BadSpec
from members.losses.kept import mean_or_zero


class CrossEntropy(nn.Module):
    """Weighted cross-entropy; the weight of a pixel is that of its true class."""

    weights: Tensor

    def __init__(self, weights: Tensor) -> None:
        super().__init__()
        self.register_buffer("weights", weights)

    def forward(self, logits: Tensor, truth: Tensor) -> Tensor:
        """Return the weighted mean over the pixels; 0 where no pixel counts."""
        labelled = truth != UNLABELLED
        label = torch.where(labelled, truth, 0).long()
        losses = functional.cross_entropy(logits.float(), label, reduction="none")
        return mean_or_zero(losses, self.weights[label] * labelled)


def cross_entropy(
    frequencies: Shares,
    ignore: int | None,
    *,
    weights: Literal["none", "frequency"] | list[float] = "none",
    power: Annotated[float, Field(ge=0, le=2)] = 1.0,
    ignored_weight: Annotated[float, Field(ge=0, le=1)] = 0.0,
) -> CrossEntropy:
    """Build a cross-entropy.

    Args:
        frequencies: share of each class in the training pixels.
        ignore: the ignored class, or None.
        weights: `none`, one number a class, or `frequency`: (median frequency / frequency) of the
            scored classes, so that the class in the middle weighs 1.
        power: frequency weights are raised to it; 0.5 lets a class of half a percent weigh some ten
            times less than 1 would.
        ignored_weight: weight of the pixels of the ignored class: 0 leaves them out, 1 learns
            them like any other.

    Source: median frequency balancing by Eigen and Fergus, "Predicting Depth, Surface Normals and
        Semantic Labels with a Common Multi-Scale Convolutional Architecture", 2015.
    """
    values = _by_frequency(frequencies, ignore) ** power
    if weights == "none":
        values = np.ones(len(frequencies))
    elif weights != "frequency":
        values = _given(weights, len(frequencies))
    if ignore is not None:
        values[ignore] = ignored_weight
    return CrossEntropy(torch.tensor(values, dtype=torch.float32))


def _by_frequency(frequencies: Shares, ignore: int | None) -> Shares:
    scored = [label for label in range(len(frequencies)) if label != ignore]
    median = np.median([frequencies[label] for label in scored if frequencies[label] > 0] or [1.0])
    # A class without a pixel has no loss to weigh.
    return np.where(frequencies > 0, median / np.maximum(frequencies, 1e-12), 0.0)


def _given(weights: Sequence[float], classes: int) -> Shares:
    if len(weights) != classes or min(weights) < 0 or max(weights) == 0:
        raise BadSpec(f"option 'weights' got {list(weights)}; expected {classes} numbers from 0")
    return np.array(weights, dtype=float)
