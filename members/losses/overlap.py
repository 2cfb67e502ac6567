"""Dice loss: one minus the overlap of prediction and target, class by class.

Lovász-softmax: the IoU made differentiable, class by class.
"""

from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional

from evaluation.core.types import Shares
from members.losses.pixel_weights import IgnoredWeight, PixelWeights, class_weights, mean_or_zero


class Dice(nn.Module):
    """Soft Dice over the whole batch: a weighted mean of the classes' losses."""

    weights: Tensor

    def __init__(self, kept: PixelWeights, weights: Tensor, smooth: float) -> None:
        super().__init__()
        self.kept = kept
        self.smooth = smooth
        self.register_buffer("weights", weights)

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        """Return the mean over the classes that occur in the batch; 0 where none does."""
        overlap, sizes, volumes = _sums(*self.kept.pixels(logits, target))
        losses = 1 - (2 * overlap + self.smooth) / (sizes + self.smooth)
        return mean_or_zero(losses, self.kept.classes(logits) * (volumes > 0) * self.weights)


class GeneralisedDice(nn.Module):
    """Soft Dice of all classes at once, each weighted by 1 / volume^2."""

    def __init__(self, kept: PixelWeights, smooth: float) -> None:
        super().__init__()
        self.kept = kept
        self.smooth = smooth

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        """Return one minus the weighted overlap by the weighted sizes; 0 where no pixel counts."""
        overlap, sizes, volumes = _sums(*self.kept.pixels(logits, target))
        weights = self.kept.classes(logits) * (volumes > 0) / volumes.clamp_min(1) ** 2
        # Only their ratios matter; with the largest at 1, `smooth` is in pixels here too.
        weights = weights / weights.max().clamp_min(torch.finfo(weights.dtype).tiny)
        top, bottom = (weights * overlap).sum(), (weights * sizes).sum()
        return 1 - (2 * top + self.smooth) / (bottom + self.smooth)


def dice(
    frequencies: Shares,
    ignore: int | None,
    *,
    smooth: Annotated[float, Field(gt=0)] = 1.0,
    weights: Literal["none", "frequency", "generalised"] = "none",
    ignored_weight: IgnoredWeight = 0.0,
) -> Dice | GeneralisedDice:
    """Build a Dice loss.

    Overlaps are summed over the batch before they are divided, since a rare class is absent from
    most single images. A class that the batch lacks has no loss.

    Args:
        frequencies: share of each class in the training pixels.
        ignore: the ignored class, or None.
        smooth: pixels added to both sides of the fraction.
        weights: of the classes: `none`; `frequency` as of `cross_entropy`; `generalised` divides
            the weighted sum of the overlaps by that of the sizes, with weights 1 / volume^2 by the
            pixels of each class in the batch.
        ignored_weight: of the ignored class, for its pixels in all sums and for its own overlap: 0
            leaves both out, 1 learns it like any other.

    Source: Milletari et al., "V-Net", 2016; sizes are plain sums, not sums of squares. Sudre et
        al., "Generalised Dice overlap as a deep learning loss function for highly unbalanced
        segmentations", 2017.
    """
    kept = PixelWeights(ignore, ignored_weight)
    if weights == "generalised":
        return GeneralisedDice(kept, smooth)
    return Dice(kept, class_weights(weights, frequencies, ignore), smooth)


def _sums(logits: Tensor, labels: Tensor, weights: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return per class: overlap and size in weighted pixels, and pixels that count by target."""
    classes = logits.shape[1]
    probabilities = logits.softmax(dim=1)
    certain = functional.one_hot(labels, classes).movedim(-1, 1).float() * (weights > 0)[:, None]
    weighted = probabilities * weights[:, None]
    axes = (0, 2, 3)
    overlap = (weighted * certain).sum(dim=axes)
    sizes = weighted.sum(dim=axes) + (certain * weights[:, None]).sum(dim=axes)
    return overlap, sizes, certain.sum(dim=axes)


class LovaszSoftmax(nn.Module):
    """Lovász extension of the Jaccard loss of the pixels' errors, over the whole batch."""

    def __init__(self, kept: PixelWeights) -> None:
        super().__init__()
        self.kept = kept

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        """Return the mean over the classes that occur in the batch; 0 where none does."""
        values, labels, weights = self.kept.flat(logits, target)
        occurring = labels.bincount(minlength=len(values)).nonzero()
        own = labels == occurring
        errors = (own.float() - values.softmax(dim=0)[occurring[:, 0]]).abs()
        errors, order = errors.sort(dim=1, descending=True)
        losses = (errors * jaccard_slopes(own.gather(1, order), weights[order])).sum(dim=1)
        return mean_or_zero(losses, self.kept.classes(logits)[occurring[:, 0]])


def jaccard_slopes(own: Tensor, weights: Tensor) -> Tensor:
    """Return by how much each pixel, got wrong after those before it, raises the Jaccard loss.

    Written as what each step adds rather than as differences of the loss, which float32 would drown
    where a pixel adds a hundred-thousandth.

    Args:
        own: whether the pixel is of the class by target, (class, pixel), worst error first;
            each class has one at least.
        weights: of the pixels, same order.
    """
    true = weights * own
    false = weights - true
    intersection = true.sum(dim=1, keepdim=True) - true.cumsum(dim=1)
    union = true.sum(dim=1, keepdim=True) + false.cumsum(dim=1)
    missed = true / union
    invented = false * intersection / (union * (union - false))
    return missed + invented


def lovasz(ignore: int | None, *, ignored_weight: IgnoredWeight = 0.0) -> LovaszSoftmax:
    """Build a Lovász-softmax loss, which for certain predictions is one minus the mean IoU.

    Args:
        ignore: the ignored class, or None.
        ignored_weight: of the ignored class, for its pixels in intersections and unions and for its
            own IoU: 0 leaves both out, 1 learns it like any other.

    Source: Berman, Rannen Triki and Blaschko, "The Lovász-Softmax loss: a tractable surrogate for
        the optimization of the intersection-over-union measure in neural networks", CVPR 2018.
    """
    return LovaszSoftmax(PixelWeights(ignore, ignored_weight))
