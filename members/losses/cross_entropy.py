"""Losses per pixel: cross-entropy and focal loss."""

from typing import Annotated

from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional

from evaluation.core.types import Shares
from members.losses.pixel_weights import (
    ClassWeights,
    IgnoredWeight,
    PixelWeights,
    class_weights,
    mean_or_zero,
)


class CrossEntropy(nn.Module):
    """Weighted mean of the cross-entropy; the weight is that of the pixel times its class's."""

    weights: Tensor

    def __init__(self, pixel_weights: PixelWeights, weights: Tensor) -> None:
        super().__init__()
        self.pixel_weights = pixel_weights
        self.register_buffer("weights", weights)

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        """Return the weighted mean over the pixels; 0 where no pixel counts."""
        values, labels, weights = self.pixel_weights.mask(logits, target)
        losses = self._losses(values, labels)
        return mean_or_zero(losses, self.weights[labels] * weights)

    def _losses(self, logits: Tensor, labels: Tensor) -> Tensor:
        return functional.cross_entropy(logits, labels, reduction="none")


class Focal(CrossEntropy):
    """Weighted mean of (1 - p)^gamma times the cross-entropy."""

    def __init__(self, pixel_weights: PixelWeights, weights: Tensor, gamma: float) -> None:
        super().__init__(pixel_weights, weights)
        self.gamma = gamma

    def _losses(self, logits: Tensor, labels: Tensor) -> Tensor:
        losses = super()._losses(logits, labels)
        # The clamp keeps the gradient finite where p rounds to 1 and gamma is below 1.
        error = (1 - (-losses).exp()).clamp_min(1e-6)
        return error**self.gamma * losses


def cross_entropy(
    frequencies: Shares,
    ignore: int | None,
    *,
    weights: ClassWeights = "none",
    power: Annotated[float, Field(ge=0, le=2)] = 1.0,
    ignored_weight: IgnoredWeight = 0.0,
) -> CrossEntropy:
    """Build a cross-entropy loss.

    Args:
        weights: `none`, one number per class, or `frequency`: (median frequency / frequency) of
            the scored classes.
        power: exponent of frequency weights. At 0.5 a class with half a percent of the pixels has
            about a tenth of the weight it has at 1.
        ignored_weight: weight of the ignored class's pixels, times the class's own.

    Examples:
        >>> import numpy as np, torch
        >>> loss = cross_entropy(np.array([0.5, 0.5]), None)
        >>> loss(torch.zeros(1, 2, 1, 1), torch.ones(1, 1, 1).byte())  # log 2
        tensor(0.6931)
    """
    values = class_weights(weights, frequencies, ignore, power=power)
    return CrossEntropy(PixelWeights(ignore, ignored_weight), values)


def focal(
    frequencies: Shares,
    ignore: int | None,
    *,
    gamma: Annotated[float, Field(ge=0, le=100)] = 2.0,
    weights: ClassWeights = "none",
    ignored_weight: IgnoredWeight = 0.0,
) -> Focal:
    """Build a focal loss; at gamma 0 it is cross-entropy.

    The sum is divided by the weights' sum, so that weights change only the balance of classes.

    Args:
        gamma: how strongly pixels that are already right are discounted.
        weights: as in `cross_entropy` (the paper's alpha).
        ignored_weight: weight of the ignored class's pixels, times the class's own.

    References:
        Lin et al., "Focal Loss for Dense Object Detection", 2017.

    Examples:
        >>> import numpy as np, torch
        >>> loss = focal(np.array([0.5, 0.5]), None, gamma=1.0)
        >>> loss(torch.zeros(1, 2, 1, 1), torch.ones(1, 1, 1).byte())  # half of log 2
        tensor(0.3466)
    """
    values = class_weights(weights, frequencies, ignore)
    return Focal(PixelWeights(ignore, ignored_weight), values, gamma)
