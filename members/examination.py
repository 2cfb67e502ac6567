"""How a network does on pictures that it does not learn from, while it is being trained."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from evaluation.ground.blocks import BLOCK_PICTURES, blocks
from members.procedures.rates import Rates, rates, tally


@dataclass(frozen=True)
class Examination:
    """Loss, accuracy and masked mIoU of a network on the holdout.

    Args:
        pictures: uint8 (picture, channel, row, col).
        truth: uint8 (picture, row, col), in the same place.
        loss: over logits and truth.
        classes: how many logits a pixel has.
        ignore: the class whose pixels do not count, or None.
        device: where to compute.
        autocast: gives the context of a forward pass.
    """

    pictures: Tensor
    truth: Tensor
    loss: nn.Module
    classes: int
    ignore: int | None
    device: str
    autocast: Callable[[], Any]

    def __call__(self, network: nn.Module) -> Rates:
        """Examine a network in evaluation mode."""
        total, counts = 0.0, torch.zeros(self.classes, self.classes, dtype=torch.int64)
        for block in blocks(len(self.pictures), BLOCK_PICTURES):
            pictures = self.pictures[block].to(self.device)
            truth = self.truth[block].to(self.device)
            with torch.inference_mode(), self.autocast():
                logits = network(pictures).float()
            with torch.inference_mode():
                total += float(self.loss(logits, truth)) * len(pictures)
                counts += tally(logits, truth, self.classes).cpu()
        return rates(total / max(1, len(self.pictures)), counts, self.ignore)
