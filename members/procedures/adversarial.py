"""Adversarial training: a discriminator learns to tell guessed masks from true ones."""

from collections.abc import Callable
from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor
from torch.nn import functional

from members.discriminator import Judge, PatchGAN
from members.losses.kept import kept_pixels
from members.procedures.fitting import History, Task, fit


class MaskJudge:
    """Says how badly guessed masks deceive a discriminator that sees pictures and masks.

    Pixels that do not count are zero in true and guessed masks alike, so that they give no hint.

    Args:
        judge: trains the discriminator.
        ignore: the class whose pixels do not count, or None.
        weight: of the adversarial loss beside the recipe's.
    """

    def __init__(self, judge: Judge, *, ignore: int | None, weight: float) -> None:
        self._judge, self._ignore, self._weight = judge, ignore, weight

    def __call__(self, pictures: Tensor, logits: Tensor, truth: Tensor) -> Tensor:
        """Return the weighted adversarial loss of the network."""
        kept = kept_pixels(truth, self._ignore)[:, None]
        label = torch.where(kept[:, 0], truth, 0).long()
        true = functional.one_hot(label, logits.shape[1]).movedim(-1, 1) * kept
        seen = pictures.float() / 127.5 - 1
        return self._weight * self._judge(seen, true.float(), logits.softmax(dim=1) * kept)


def adversarial(
    *,
    weight: Annotated[float, Field(gt=0)] = 0.05,
    width: Annotated[int, Field(ge=1)] = 16,
) -> Callable[[Task], History]:
    """Train by the recipe's loss (the reconstruction) plus an adversarial loss.

    After training the generator alone is the member. The paper weighs reconstruction 100 times the
    adversarial loss, for an L1 distance; cross-entropy is some five times larger.

    Args:
        weight: of the adversarial loss beside the recipe's.
        width: channels of the discriminator's first level.

    Source: Isola et al., "Image-to-Image Translation with Conditional Adversarial Networks", 2017.
    """

    def train(task: Task) -> History:
        channels = task.network.mean.shape[0] + task.classes
        discriminator = PatchGAN(channels, width).to(task.network.mean.device)
        judge = MaskJudge(Judge(discriminator), ignore=task.ignore, weight=weight)
        epochs = task.recipe.epochs
        return fit(task, task.network.parameters(), epochs=epochs, judge=judge)

    return train
