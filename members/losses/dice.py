"""Dice loss: one minus the overlap of prediction and truth, class by class."""

from typing import Annotated

from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional

from members.losses.kept import flat_kept


class Dice(nn.Module):
    """Soft Dice over the kept pixels of the whole batch."""

    def __init__(self, ignore: int | None, smooth: float) -> None:
        super().__init__()
        self.ignore = ignore
        self.smooth = smooth

    def forward(self, logits: Tensor, truth: Tensor) -> Tensor:
        """Return the mean over the scored classes that occur in the batch; 0 where none does."""
        classes = logits.shape[1]
        values, labels = flat_kept(logits, truth, self.ignore)
        probabilities = values.float().softmax(dim=1)
        certain = functional.one_hot(labels, classes).float()
        overlap = (probabilities * certain).sum(dim=0)
        sizes = (probabilities + certain).sum(dim=0)
        losses = 1 - (2 * overlap + self.smooth) / (sizes + self.smooth)
        occurs = certain.sum(dim=0) > 0
        return (losses * occurs).sum() / occurs.sum().clamp_min(1)


def dice(ignore: int | None, *, smooth: Annotated[float, Field(gt=0)] = 1.0) -> Dice:
    """Build a Dice loss.

    Overlaps are summed over the batch before they are divided, since a rare class is absent from
    most single pictures.

    Args:
        ignore: the ignored class, or None.
        smooth: pixels added to both sides of the fraction.

    Source: Milletari et al., "V-Net", 2016; sizes are plain sums, not sums of squares.
    """
    return Dice(ignore, smooth)
