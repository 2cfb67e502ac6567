"""Which pixels a loss looks at."""

import torch
from torch import Tensor

from evaluation.ground.classes import UNLABELLED


def kept_pixels(truth: Tensor, ignore: int | None) -> Tensor:
    """Tell which pixels count: labelled, and not of the ignored class. Boolean, shape of truth."""
    kept = truth != UNLABELLED
    return kept if ignore is None else kept & (truth != ignore)


def flat_kept(logits: Tensor, truth: Tensor, ignore: int | None) -> tuple[Tensor, Tensor]:
    """Gather the kept pixels.

    Args:
        logits: (picture, class, row, col).
        truth: (picture, row, col).
        ignore: the ignored class.

    Returns:
        Logits (pixel, class) and truth (pixel); both empty where nothing is kept.
    """
    kept = kept_pixels(truth, ignore)
    return logits.movedim(1, -1)[kept], truth[kept].long()


def mean_or_zero(values: Tensor, weights: Tensor) -> Tensor:
    """Return the weighted mean; 0, with a gradient of 0, where the weights sum to 0."""
    return (values * weights).sum() / weights.sum().clamp_min(torch.finfo(values.dtype).tiny)
