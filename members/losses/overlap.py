"""Losses on the overlap of prediction and target, per class: Dice and Lovász-softmax."""

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

    def __init__(self, pixel_weights: PixelWeights, weights: Tensor, smooth: float) -> None:
        super().__init__()
        self.pixel_weights = pixel_weights
        self.smooth = smooth
        self.register_buffer("weights", weights)

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        """Return the mean over the classes that occur in the batch; 0 where none does."""
        overlap, sizes, volumes = _sums(*self.pixel_weights.mask(logits, target))
        losses = 1 - (2 * overlap + self.smooth) / (sizes + self.smooth)
        weights = self.pixel_weights.of_classes(logits) * (volumes > 0) * self.weights
        return mean_or_zero(losses, weights)


class GeneralisedDice(nn.Module):
    """Soft Dice of all classes together, each weighted by 1 / volume^2."""

    def __init__(self, pixel_weights: PixelWeights, smooth: float) -> None:
        super().__init__()
        self.pixel_weights = pixel_weights
        self.smooth = smooth

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        """Return one minus the weighted overlap by the weighted sizes; 0 where no pixel counts."""
        overlap, sizes, volumes = _sums(*self.pixel_weights.mask(logits, target))
        present = volumes > 0
        weights = self.pixel_weights.of_classes(logits) * present / volumes.clamp_min(1) ** 2
        # Only their ratios matter; with the largest at 1, `smooth` is in pixels here too.
        weights = weights / weights.max().clamp_min(torch.finfo(weights.dtype).tiny)
        numerator, denominator = (weights * overlap).sum(), (weights * sizes).sum()
        return 1 - (2 * numerator + self.smooth) / (denominator + self.smooth)


def dice(
    frequencies: Shares,
    ignore: int | None,
    *,
    smooth: Annotated[float, Field(gt=0, le=1e6)] = 1.0,
    weights: Literal["none", "frequency", "generalised"] = "none",
    ignored_weight: IgnoredWeight = 0.0,
) -> Dice | GeneralisedDice:
    """Build a Dice loss.

    Overlaps are summed over the batch before they are divided, since a rare class is absent from
    most single images. A class that is absent from the batch has no loss.

    Args:
        smooth: pixels added to numerator and denominator.
        weights: of the classes: `none`; `frequency` as in `cross_entropy`; `generalised` divides
            the weighted sum of the overlaps by that of the sizes, with weights 1 / volume^2 by the
            pixels of each class in the batch.
        ignored_weight: weight of the ignored class, for its pixels and for its own overlap.

    References:
        Milletari et al., "V-Net", 2016; sizes are plain sums, not sums of squares. Sudre et al.,
        "Generalised Dice overlap as a deep learning loss function for highly unbalanced
        segmentations", 2017.

    Examples:
        >>> import numpy as np
        >>> loss = dice(np.array([0.5, 0.5]), None, smooth=1e-6)
        >>> loss(torch.zeros(1, 2, 1, 2), torch.tensor([[[0, 1]]]).byte())
        tensor(0.5000)
    """
    pixel_weights = PixelWeights(ignore, ignored_weight)
    if weights == "generalised":
        return GeneralisedDice(pixel_weights, smooth)
    return Dice(pixel_weights, class_weights(weights, frequencies, ignore), smooth)


def _sums(logits: Tensor, labels: Tensor, weights: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return per class: overlap and size in weighted pixels, and number of target pixels."""
    classes = logits.shape[1]
    probabilities = logits.softmax(dim=1)
    target = functional.one_hot(labels, classes).movedim(-1, 1).float() * (weights > 0)[:, None]
    weighted = probabilities * weights[:, None]
    axes = (0, 2, 3)
    overlap = (weighted * target).sum(dim=axes)
    sizes = weighted.sum(dim=axes) + (target * weights[:, None]).sum(dim=axes)
    return overlap, sizes, target.sum(dim=axes)


class LovaszSoftmax(nn.Module):
    """Lovász extension of the Jaccard loss of the pixels' errors, over the whole batch.

    Only classes that occur are sorted: with many classes the others would take most of the time. So
    the host waits for their number, and a step with this loss is not recorded on a GPU.
    """

    works_on_host = True

    def __init__(self, pixel_weights: PixelWeights) -> None:
        super().__init__()
        self.pixel_weights = pixel_weights

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        """Return the mean over the classes that occur in the batch; 0 where none does."""
        values, labels, weights = self.pixel_weights.select(logits, target)
        present = labels.bincount(minlength=len(values)).nonzero()
        foreground = labels == present
        errors = (foreground.float() - values.softmax(dim=0)[present[:, 0]]).abs()
        errors, order = errors.sort(dim=1, descending=True)
        gradient = jaccard_gradient(foreground.gather(1, order), weights[order])
        losses = (errors * gradient).sum(dim=1)
        return mean_or_zero(losses, self.pixel_weights.of_classes(logits)[present[:, 0]])


def jaccard_gradient(foreground: Tensor, weights: Tensor) -> Tensor:
    """Return how much each pixel, when wrong like those before it, raises the Jaccard loss.

    Computed as the increment of each step rather than as differences of the loss, which would
    lose all precision in float32 where a pixel adds a hundred-thousandth.

    Args:
        foreground: whether the pixel belongs to the class, (class, pixel), largest error first;
            at least one pixel per class.
        weights: of the pixels, same order.
    """
    positive = weights * foreground
    negative = weights - positive
    intersection = positive.sum(dim=1, keepdim=True) - positive.cumsum(dim=1)
    union = positive.sum(dim=1, keepdim=True) + negative.cumsum(dim=1)
    missed = positive / union
    false_positives = negative * intersection / (union * (union - negative))
    return missed + false_positives


def lovasz(ignore: int | None, *, ignored_weight: IgnoredWeight = 0.0) -> LovaszSoftmax:
    """Build a Lovász-softmax loss; for certain predictions it is one minus the mean IoU.

    Args:
        ignored_weight: weight of the ignored class, for its pixels and for its own IoU.

    References:
        Berman, Rannen Triki and Blaschko, "The Lovász-Softmax loss: a tractable surrogate for the
        optimization of the intersection-over-union measure in neural networks", CVPR 2018.

    Examples:
        >>> logits = torch.tensor([100.0, -100.0]).reshape(1, 2, 1, 1).expand(1, 2, 1, 2)
        >>> lovasz(None)(logits, torch.tensor([[[0, 1]]]).byte())  # IoU 1/2 and 0
        tensor(0.7500)
    """
    return LovaszSoftmax(PixelWeights(ignore, ignored_weight))
