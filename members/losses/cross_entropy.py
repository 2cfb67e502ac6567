"""Cross-entropy: the negative log-likelihood of the true class."""

from typing import Annotated

from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional

from evaluation.ground.arrays import Shares
from members.losses.class_weights import ClassWeights, class_weights
from members.losses.kept import IgnoredWeight, Kept, mean_or_zero


class CrossEntropy(nn.Module):
    """Weighted cross-entropy; a pixel's weight is that of its true class, times what is kept."""

    weights: Tensor

    def __init__(self, kept: Kept, weights: Tensor) -> None:
        super().__init__()
        self.kept = kept
        self.register_buffer("weights", weights)

    def forward(self, logits: Tensor, truth: Tensor) -> Tensor:
        """Return the weighted mean over the pixels; 0 where no pixel counts."""
        values, labels, counted = self.kept.pixels(logits, truth)
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
    return CrossEntropy(Kept(ignore, ignored_weight), values)
