"""Lovász-softmax: the IoU made differentiable, class by class."""

from torch import Tensor, nn

from members.losses.kept import IgnoredWeight, Kept, mean_or_zero


class LovaszSoftmax(nn.Module):
    """Lovász extension of the Jaccard loss of the pixels' errors, over the whole batch."""

    def __init__(self, kept: Kept) -> None:
        super().__init__()
        self.kept = kept

    def forward(self, logits: Tensor, truth: Tensor) -> Tensor:
        """Return the mean over the classes that occur in the batch; 0 where none does."""
        values, labels, weights = self.kept.flat(logits, truth)
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
        own: whether the pixel is of the class by truth, (class, pixel), worst error first;
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
    """Build a Lovász-softmax loss, which for certain guesses is one minus the mean IoU.

    Args:
        ignore: the ignored class, or None.
        ignored_weight: of the ignored class, for its pixels in intersections and unions and for its
            own IoU: 0 leaves both out, 1 learns it like any other.

    Source: Berman, Rannen Triki and Blaschko, "The Lovász-Softmax loss: a tractable surrogate for
        the optimization of the intersection-over-union measure in neural networks", CVPR 2018.
    """
    return LovaszSoftmax(Kept(ignore, ignored_weight))
