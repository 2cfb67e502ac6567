"""Cross-entropy: the negative log-likelihood of the true class.

Focal loss: cross-entropy that cares less for pixels which are right already.
"""

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
    """Weighted cross-entropy; a pixel's weight is that of its true class, times what is kept."""

    weights: Tensor

    def __init__(self, kept: PixelWeights, weights: Tensor) -> None:
        super().__init__()
        self.kept = kept
        self.register_buffer("weights", weights)

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        """Return the weighted mean over the pixels; 0 where no pixel counts."""
        values, labels, counted = self.kept.pixels(logits, target)
        losses = functional.cross_entropy(values, labels, reduction="none")
        return mean_or_zero(losses, self.weights[labels] * counted)


def cross_entropy(
    frequencies: Shares,
    ignore: int | None,
    *,
    weights: ClassWeights = "none",
    power: Annotated[float, Field(ge=0, le=2)] = 1.0,
    ignored_weight: IgnoredWeight = 0.0,
) -> CrossEntropy:
    """Build a cross-entropy.

    Args:
        frequencies: share of each class in the training pixels.
        ignore: the ignored class, or None.
        weights: `none`, one number a class, or `frequency`: (median frequency / frequency) of the
            scored classes, so that the class in the middle weighs 1.
        power: frequency weights are raised to it; 0.5 lets a class of half a percent weigh some ten
            times less than 1 would.
        ignored_weight: weight of the pixels of the ignored class, times the class's own: 0 leaves
            them out, 1 learns them like any other.
    """
    values = class_weights(weights, frequencies, ignore, power=power)
    return CrossEntropy(PixelWeights(ignore, ignored_weight), values)


class Focal(nn.Module):
    """Weighted mean of (1 - p)^gamma times the cross-entropy."""

    weights: Tensor

    def __init__(self, kept: PixelWeights, weights: Tensor, gamma: float) -> None:
        super().__init__()
        self.kept = kept
        self.gamma = gamma
        self.register_buffer("weights", weights)

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        """Return the weighted mean over the pixels; 0 where no pixel counts."""
        values, labels, counted = self.kept.pixels(logits, target)
        log_p = -functional.cross_entropy(values, labels, reduction="none")
        # The clamp keeps the slope finite where p rounds to 1 and gamma lies below 1.
        doubt = (1 - log_p.exp()).clamp_min(1e-6)
        return mean_or_zero(doubt**self.gamma * -log_p, self.weights[labels] * counted)


def focal(
    frequencies: Shares,
    ignore: int | None,
    *,
    gamma: Annotated[float, Field(ge=0)] = 2.0,
    weights: ClassWeights = "none",
    ignored_weight: IgnoredWeight = 0.0,
) -> Focal:
    """Build a focal loss; gamma 0 is cross-entropy.

    The sum is divided by the weights' sum, so that weights shift attention and no more.

    Args:
        frequencies: share of each class in the training pixels.
        ignore: the ignored class, or None.
        gamma: how strongly pixels that are right already are discounted.
        weights: as of `cross_entropy` (the paper's alpha).
        ignored_weight: weight of the pixels of the ignored class, times the class's own: 0 leaves
            them out, 1 learns them like any other.

    Source: Lin et al., "Focal Loss for Dense Object Detection", 2017.
    """
    values = class_weights(weights, frequencies, ignore)
    return Focal(PixelWeights(ignore, ignored_weight), values, gamma)
