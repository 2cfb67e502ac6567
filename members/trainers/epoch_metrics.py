"""Metrics of one epoch: the values of the training curves."""

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from evaluation.confusion import confusion
from evaluation.core.arrays import argmax
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


class EpochSums:
    """Loss and confusion of an epoch, summed on the device; the host waits for `read` alone.

    Args:
        classes: number of classes.
        device: of the batches.
    """

    def __init__(self, classes: int, device: str | torch.device) -> None:
        self._loss = torch.zeros((), dtype=torch.float64, device=device)
        self._counts = torch.zeros(classes, classes, dtype=torch.int64, device=device)

    def add(self, loss: Tensor, logits: Tensor, target: Tensor, *, times: int = 1) -> None:
        """Add the counts of a batch, and its loss as often as said."""
        self._loss += times * loss.detach().double()
        self._counts += batch_confusion(logits.detach(), target, len(self._counts))

    def read(self) -> tuple[float, Tensor]:
        """Return the sums, and begin again from 0.

        The sum of the losses is NaN or infinite if one of them was.
        """
        loss, counts = float(self._loss), self._counts.to("cpu", copy=True)
        self._loss.zero_()
        self._counts.zero_()
        return loss, counts


def compute_epoch_metrics(
    loss: float, counts: Tensor, ignore: int | None, protocol: Protocol = MASKED
) -> EpochMetrics:
    """Compute the metrics from the mean loss and the counts of `batch_confusion`."""
    table = counts.cpu().numpy()
    scored = np.arange(len(table)) != ignore
    num_pixels = table[scored].sum()
    num_correct = np.diag(table)[scored].sum()
    accuracy = float(num_correct / num_pixels) if num_pixels else math.nan
    return EpochMetrics(loss, accuracy, float(protocol(table, ignore).miou))


def batch_confusion(logits: Tensor, target: Tensor, classes: int) -> Tensor:
    """Count labelled pixels by (target class, predicted class), without waiting for a GPU.

    Args:
        logits: (image, class, row, col).
        target: uint8 (image, row, col).
        classes: number of classes.
    """
    if logits.device.type == "cpu":  # compiled: a tenth of the time of torch's argmax alone
        pred = argmax(logits.contiguous().numpy())
        tables = confusion(target.numpy(), pred, classes=classes)
        return torch.from_numpy(tables.sum(axis=0, dtype=np.int64))
    return confusion_on_device(logits, target, classes)


def confusion_on_device(logits: Tensor, target: Tensor, classes: int) -> Tensor:
    """Count as `batch_confusion` does, by operations whose results have fixed sizes."""
    pairs = target.long() * classes + logits.argmax(dim=1)
    pairs = torch.where(target == UNLABELLED, classes**2, pairs).flatten()
    counts = pairs.new_zeros(classes**2 + 1).scatter_add_(0, pairs, torch.ones_like(pairs))
    return counts[:-1].reshape(classes, classes)
