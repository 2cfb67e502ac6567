"""Which pixels a loss looks at, and how much the ignored class weighs."""

from dataclasses import dataclass
from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor

from evaluation.ground.classes import UNLABELLED

IgnoredWeight = Annotated[float, Field(ge=0, le=1)]
"""0 leaves the ignored class out by pixel, 1 learns it like any other."""


def kept_pixels(truth: Tensor, ignore: int | None) -> Tensor:
    """Tell which pixels count: labelled, and not of the ignored class. Boolean, shape of truth."""
    kept = truth != UNLABELLED
    return kept if ignore is None else kept & (truth != ignore)


@dataclass(frozen=True)
class Kept:
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

    def pixels(self, logits: Tensor, truth: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Clear what does not count.

        Args:
            logits: (picture, class, row, col).
            truth: (picture, row, col).

        Returns:
            Logits in float32; labels; and the weight of each pixel. Where the weight is 0, logits
            and label are 0 too, so that not even NaN gets through.
        """
        weights = (truth != UNLABELLED).float()
        if self.ignore is not None:
            weights = torch.where(truth == self.ignore, self.ignored_weight * weights, weights)
        out = weights == 0
        cleared = logits.float().masked_fill(out[:, None], 0)
        return cleared, truth.long().masked_fill(out, 0), weights

    def flat(self, logits: Tensor, truth: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Gather the pixels that count.

        Args:
            logits: (picture, class, row, col).
            truth: (picture, row, col).

        Returns:
            Logits (class, pixel) in float32, labels (pixel) and weights (pixel); empty where no
            pixel counts.
        """
        cleared, labels, weights = self.pixels(logits, truth)
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
