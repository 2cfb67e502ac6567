"""Validation of a network on the images that are held out of its training."""

from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import nn

from evaluation.core.blocks import blocks
from evaluation.core.ragged import extent_of
from evaluation.iou import Protocol, Score, Tables
from evaluation.run_metric import is_defined
from members.batches import ChosenImages, Images, read_images
from members.data.dataset import class_pixels
from members.devices import Precision, send
from members.trainers.epoch_metrics import EpochMetrics, EpochSums, compute_epoch_metrics


@dataclass(frozen=True)
class HoldoutValidator:
    """Computes loss, accuracy and the run's metric of a network on the holdout.

    Args:
        images: (image, channel, row, col), of any sizes.
        target: uint8 (image, row, col).
        loss: of logits and target.
        classes: number of logits per pixel.
        ignore: the ignored class, or None.
        protocol: the metric.
        precision: of the forward passes, and on which device.
    """

    images: Images
    target: Images
    loss: nn.Module
    classes: int
    ignore: int | None
    protocol: Protocol
    precision: Precision

    def __call__(self, network: nn.Module) -> EpochMetrics:
        """Validate a network that is in evaluation mode."""
        device = self.precision.device
        sums = EpochSums(self.classes, device)
        with torch.inference_mode(), self.precision.kernels():
            for block in blocks(extent_of(self.images)):
                images = send(read_images(self.images, block), device)
                target = send(read_images(self.target, block), device)
                with self.precision.autocast():
                    logits = network(images).float()
                sums.add(self.loss(logits, target), logits, target, times=len(images))
        loss, counts = sums.read()
        mean_loss = loss / max(1, len(self.images))
        return compute_epoch_metrics(mean_loss, counts, self.ignore, self.protocol)


def holdout_protocol(
    protocol: Protocol, target: ChosenImages, classes: int, ignore: int | None
) -> Protocol:
    """Return a protocol without a number where the holdout lacks what it measures.

    There a false positive would score 0 and none nothing, so that epochs could not be compared.
    """
    pixels = class_pixels(target, classes).sum(axis=0)
    if is_defined(protocol, pixels, ignore):
        return protocol

    def undefined(counts: Tables, ignore: int | None) -> Score:
        score = protocol(counts, ignore)
        return replace(score, miou=np.full_like(score.miou, np.nan))

    return undefined
