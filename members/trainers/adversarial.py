"""Adversarial training: a discriminator learns to tell predicted masks from true ones.

A discriminator that learns beside a generator to tell true pairs from made ones.
"""

from collections.abc import Callable
from typing import Annotated, Any

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional

from evaluation.core.errors import BadData
from members.losses.pixel_weights import valid_mask
from members.trainers.loop import History, TrainingTask, fit

LEAK = 0.2
SMALLEST_PX = 12
RATE, BETAS = 2e-4, (0.5, 0.999)  # the paper's


class PatchGAN(nn.Sequential):
    """Tells for each patch whether a condition and what was made for it belong together.

    (N, channels, H, W) to logits (N, 1, H / 4 - 2, W / 4 - 2); each sees 34 x 34 pixels, half the
    side of the paper's, as the images are smaller.

    Args:
        channels: of both together.
        width: channels of the first level.

    Source: Isola et al., "Image-to-Image Translation with Conditional Adversarial Networks", 2017.
    """

    def __init__(self, channels: int, width: int) -> None:
        super().__init__(
            nn.Conv2d(channels, width, 4, stride=2, padding=1),
            nn.LeakyReLU(LEAK),
            nn.Conv2d(width, 2 * width, 4, stride=2, padding=1, bias=False),
            nn.BatchNorm2d(2 * width),
            nn.LeakyReLU(LEAK),
            nn.Conv2d(2 * width, 4 * width, 4, padding=1, bias=False),
            nn.BatchNorm2d(4 * width),
            nn.LeakyReLU(LEAK),
            nn.Conv2d(4 * width, 1, 4, padding=1),
        )

    def forward(self, pairs: Tensor) -> Tensor:
        """Tell of pairs (N, channels, H, W).

        Raises:
            BadData: they are smaller than a patch can be.
        """
        rows, cols = pairs.shape[2:]
        if min(rows, cols) < SMALLEST_PX:
            raise BadData(
                f"images are {rows} x {cols}; a PatchGAN needs at least"
                f" {SMALLEST_PX} x {SMALLEST_PX} pixels: take procedure 'supervised'"
            )
        told: Tensor = super().forward(pairs)  # type: ignore[no-untyped-call]
        return told


class AdversarialCritic:
    """Trains a discriminator on each batch, then says how badly the generator deceived it.

    Args:
        discriminator: over condition and what was made for it, side by side.
    """

    def __init__(self, discriminator: nn.Module) -> None:
        self._discriminator = discriminator
        self._optimizer = torch.optim.Adam(discriminator.parameters(), lr=RATE, betas=BETAS)

    def __call__(self, condition: Tensor, true: Tensor, made: Tensor) -> Tensor:
        """Return the adversarial loss of the generator.

        Args:
            condition: (image, channel, row, col).
            true: what belongs to it, (image, channel, row, col).
            made: what the generator made for it, of that shape.
        """
        told = self._told(condition, true, real=True)
        told = (told + self._told(condition, made.detach(), real=False)) / 2
        self._optimizer.zero_grad(set_to_none=True)
        told.backward()  # type: ignore[no-untyped-call]
        self._optimizer.step()
        # What this one adds to the discriminator's gradients is cleared before its next step.
        return self._told(condition, made, real=True)

    def _told(self, condition: Tensor, made: Tensor, *, real: bool) -> Tensor:
        said: Any = self._discriminator(torch.cat([condition, made], dim=1))
        wanted = torch.full_like(said, float(real))
        return functional.binary_cross_entropy_with_logits(said, wanted)


class MaskCritic:
    """Says how badly predicted masks deceive a discriminator that sees images and masks.

    Pixels that do not count are zero in true and predicted masks alike, so that they give no hint.

    Args:
        judge: trains the discriminator.
        ignore: the class whose pixels do not count, or None.
        weight: of the adversarial loss beside the recipe's.
    """

    def __init__(self, judge: AdversarialCritic, *, ignore: int | None, weight: float) -> None:
        self._judge, self._ignore, self._weight = judge, ignore, weight

    def __call__(self, images: Tensor, logits: Tensor, target: Tensor) -> Tensor:
        """Return the weighted adversarial loss of the network."""
        kept = valid_mask(target, self._ignore)[:, None]
        label = torch.where(kept[:, 0], target, 0).long()
        true = functional.one_hot(label, logits.shape[1]).movedim(-1, 1) * kept
        seen = images.float() / 127.5 - 1
        return self._weight * self._judge(seen, true.float(), logits.softmax(dim=1) * kept)


def adversarial(
    *,
    weight: Annotated[float, Field(gt=0)] = 0.05,
    width: Annotated[int, Field(ge=1)] = 16,
) -> Callable[[TrainingTask], History]:
    """Train by the recipe's loss (the reconstruction) plus an adversarial loss.

    After training the generator alone is the member. The paper weighs reconstruction 100 times the
    adversarial loss, for an L1 distance; cross-entropy is some five times larger.

    Args:
        weight: of the adversarial loss beside the recipe's.
        width: channels of the discriminator's first level.

    Source: Isola et al., "Image-to-Image Translation with Conditional Adversarial Networks", 2017.
    """

    def train(task: TrainingTask) -> History:
        channels = task.network.mean.shape[0] + task.classes
        discriminator = PatchGAN(channels, width).to(task.network.mean.device)
        judge = MaskCritic(AdversarialCritic(discriminator), ignore=task.ignore, weight=weight)
        epochs = task.recipe.epochs
        return fit(task, task.network.parameters(), epochs=epochs, judge=judge)

    return train
