"""Metrics of one epoch: the values of the training curves."""

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from evaluation.core.classes import UNLABELLED
from evaluation.iou import Protocol
from evaluation.protocols import masked
from members.recipe import Monitor


@dataclass(frozen=True)
class EpochMetrics:
    """Mean loss, pixel accuracy and the run's metric, by default masked mIoU; NaN where undefined.

    The metric is `miou`, whatever it measures.
    """

    loss: float
    accuracy: float
    miou: float

    def monitored(self, monitor: Monitor) -> float:
        """Return the value to maximise: the metric, or minus the loss (also if that is NaN).

        NaN where the loss is: the argmax of logits that are NaN has a score, but means nothing.
        """
        if math.isnan(self.loss):
            return math.nan
        return -self.loss if monitor == "loss" or math.isnan(self.miou) else self.miou


MASKED: Protocol = masked()


def compute_epoch_metrics(
    loss: float, counts: Tensor, ignore: int | None, protocol: Protocol = MASKED
) -> EpochMetrics:
    """Compute the metrics from the mean loss and the counts of `batch_confusion`."""
    confusion = counts.cpu().numpy()
    scored = np.arange(len(confusion)) != ignore
    num_pixels = confusion[scored].sum()
    num_correct = np.diag(confusion)[scored].sum()
    accuracy = float(num_correct / num_pixels) if num_pixels else math.nan
    return EpochMetrics(loss, accuracy, float(protocol(confusion, ignore).miou))


def batch_confusion(logits: Tensor, target: Tensor, classes: int) -> Tensor:
    """Count labelled pixels by (target class, predicted class).

    Args:
        logits: (image, class, row, col).
        target: (image, row, col).
        classes: number of classes.
    """
    labelled = target != UNLABELLED
    pairs = target[labelled].long() * classes + logits.argmax(dim=1)[labelled]
    return torch.bincount(pairs, minlength=classes**2).reshape(classes, classes)
