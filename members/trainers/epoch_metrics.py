"""How a network does on some images: the numbers of its training curves."""

import math
from dataclasses import asdict, dataclass
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from evaluation.core.classes import UNLABELLED
from evaluation.protocols import PROTOCOLS

Monitor = Literal["miou", "loss"]


@dataclass(frozen=True)
class EpochMetrics:
    """Loss, pixel accuracy and masked mIoU; NaN where no pixel can be scored.

    Args:
        loss: mean over batches.
        accuracy: share of the scored pixels that are predicted right.
        miou: as the protocol `masked` has it.
    """

    loss: float
    accuracy: float
    miou: float

    def row(self) -> dict[str, float]:
        """Return them by name."""
        return asdict(self)

    def watched(self, monitor: Monitor) -> float:
        """Return what is to rise: the mIoU, or minus the loss (also where there is no mIoU)."""
        return -self.loss if monitor == "loss" or math.isnan(self.miou) else self.miou


def batch_confusion(logits: Tensor, target: Tensor, classes: int) -> Tensor:
    """Count pixels by (true class, predicted class), unlabelled ones in none.

    Args:
        logits: (image, class, row, col).
        target: (image, row, col).
        classes: how many there are.
    """
    labelled = target != UNLABELLED
    pairs = target[labelled].long() * classes + logits.argmax(dim=1)[labelled]
    return torch.bincount(pairs, minlength=classes**2).reshape(classes, classes)


def rates(loss: float, counts: Tensor, ignore: int | None) -> EpochMetrics:
    """Make the numbers of an epoch from its mean loss and what `batch_confusion` counted."""
    table = counts.cpu().numpy()
    scored = np.arange(len(table)) != ignore
    kept = table[scored].sum()
    right = np.diag(table)[scored].sum()
    accuracy = float(right / kept) if kept else math.nan
    return EpochMetrics(loss, accuracy, float(PROTOCOLS.build("masked")(table, ignore).miou))
