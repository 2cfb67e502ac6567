"""Weights of classes: none, given, or against their frequency in the training pixels."""

from collections.abc import Sequence
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from evaluation.ground.arrays import Shares
from evaluation.ground.errors import BadSpec

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
