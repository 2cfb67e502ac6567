"""Focal loss: cross-entropy that cares less for pixels which are right already."""

from typing import Annotated

from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional

from members.losses.kept import flat_kept


class Focal(nn.Module):
    """Mean of (1 - p)^gamma times the cross-entropy over the kept pixels."""

    def __init__(self, ignore: int | None, gamma: float) -> None:
        super().__init__()
        self.ignore = ignore
        self.gamma = gamma

    def forward(self, logits: Tensor, truth: Tensor) -> Tensor:
        """Return the mean over the kept pixels; 0 where there is none."""
        values, labels = flat_kept(logits, truth, self.ignore)
        log_p = -functional.cross_entropy(values.float(), labels, reduction="none")
        # The clamp keeps the slope finite where p rounds to 1 and gamma lies below 1.
        doubt = (1 - log_p.exp()).clamp_min(1e-6)
        return (doubt**self.gamma * -log_p).sum() / max(1, len(labels))


def focal(ignore: int | None, *, gamma: Annotated[float, Field(ge=0)] = 2.0) -> Focal:
    """Build a focal loss; gamma 0 is cross-entropy.

    Args:
        ignore: the ignored class, or None.
        gamma: how strongly pixels that are right already are discounted.

    Source: Lin et al., "Focal Loss for Dense Object Detection", 2017.
    """
    return Focal(ignore, gamma)
