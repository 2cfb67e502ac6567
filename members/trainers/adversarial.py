"""Adversarial training: a discriminator learns to distinguish predicted masks from target masks."""

from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional

from evaluation.core.errors import BadData
from members.architectures.blocks import Width
from members.losses.pixel_weights import one_hot, valid_mask
from members.trainers.loop import Trainer, Training, TrainingTask, fit

NEGATIVE_SLOPE = 0.2
MIN_SIZE_PX = 12
LEARNING_RATE, BETAS = 2e-4, (0.5, 0.999)  # the paper's


class PatchGAN(nn.Sequential):
    """Discriminator that classifies each patch of (condition, image) pairs as real or generated.

    (N, channels, H, W) to logits (N, 1, H / 4 - 2, W / 4 - 2). A patch has 34 x 34 pixels, half the
    side of the paper's, as the images are smaller.

    Args:
        channels: of condition and image together.
        width: channels of the first level.

    References:
        Isola et al., "Image-to-Image Translation with Conditional Adversarial Networks", 2017.
    """

    def __init__(self, channels: int, width: int) -> None:
        super().__init__(
            nn.Conv2d(channels, width, 4, stride=2, padding=1),
            nn.LeakyReLU(NEGATIVE_SLOPE),
            nn.Conv2d(width, 2 * width, 4, stride=2, padding=1, bias=False),
            nn.BatchNorm2d(2 * width),
            nn.LeakyReLU(NEGATIVE_SLOPE),
            nn.Conv2d(2 * width, 4 * width, 4, padding=1, bias=False),
            nn.BatchNorm2d(4 * width),
            nn.LeakyReLU(NEGATIVE_SLOPE),
            nn.Conv2d(4 * width, 1, 4, padding=1),
        )

    def forward(self, pairs: Tensor) -> Tensor:
        """Return the logits of pairs (N, channels, H, W).

        Raises:
            BadData: the images are too small.
        """
        rows, cols = pairs.shape[2:]
        if min(rows, cols) < MIN_SIZE_PX:
            raise BadData(
                f"images are {rows} x {cols}; a PatchGAN needs at least"
                f" {MIN_SIZE_PX} x {MIN_SIZE_PX} pixels: use trainer 'supervised'"
            )
        logits: Tensor = super().forward(pairs)  # type: ignore[no-untyped-call]
        return logits


class AdversarialCritic:
    """Trains a discriminator on each batch, then returns the generator's adversarial loss.

    Args:
        discriminator: over condition and image, concatenated along the channels.
    """

    def __init__(self, discriminator: nn.Module) -> None:
        self._discriminator = discriminator
        parameters = list(discriminator.parameters())
        self._optimizer = torch.optim.Adam(
            parameters, lr=LEARNING_RATE, betas=BETAS, capturable=parameters[0].is_cuda
        )

    def __call__(self, condition: Tensor, real: Tensor, fake: Tensor) -> Tensor:
        """Return the adversarial loss of the generator; all (image, channel, row, col)."""
        loss = self._loss(condition, real, is_real=True)
        loss = (loss + self._loss(condition, fake.detach(), is_real=False)) / 2
        self._optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        self._optimizer.step()
        # The gradients that this adds to the discriminator are cleared before its next step.
        return self._loss(condition, fake, is_real=True)

    def _loss(self, condition: Tensor, images: Tensor, *, is_real: bool) -> Tensor:
        logits = self._discriminator(torch.cat([condition, images], dim=1))
        expected = torch.full_like(logits, float(is_real))
        return functional.binary_cross_entropy_with_logits(logits, expected)


class MaskCritic:
    """The weighted adversarial loss of predicted masks, given a critic of (image, mask) pairs.

    Pixels that are ignored or unlabelled are 0 in target and predicted masks alike, so they carry
    no information.
    """

    def __init__(self, critic: AdversarialCritic, *, ignore: int | None, weight: float) -> None:
        self._critic, self._ignore, self._weight = critic, ignore, weight

    def __call__(self, images: Tensor, logits: Tensor, target: Tensor) -> Tensor:
        """Return the loss for a batch."""
        valid = valid_mask(target, self._ignore)
        real = one_hot(target, logits.shape[1], valid)
        fake = logits.softmax(dim=1) * valid[:, None]
        return self._weight * self._critic(images.float() / 127.5 - 1, real, fake)


def adversarial(
    *,
    weight: Annotated[float, Field(gt=0, le=1e6)] = 0.05,
    width: Width = 16,
) -> Trainer:
    """Train by the recipe's loss (the reconstruction) plus an adversarial loss.

    After training the generator alone is the member. In the paper the reconstruction (an L1
    distance) has 100 times the weight of the adversarial loss; cross-entropy is about five times
    larger than that distance.

    Args:
        weight: of the adversarial loss relative to the recipe's.
        width: channels of the discriminator's first level.

    References:
        Isola et al., "Image-to-Image Translation with Conditional Adversarial Networks", 2017.
    """

    def train(task: TrainingTask) -> Training:
        channels = task.network.mean.shape[0] + task.classes
        discriminator = PatchGAN(channels, width).to(task.network.mean.device)
        critic = MaskCritic(AdversarialCritic(discriminator), ignore=task.ignore, weight=weight)
        epochs = task.recipe.epochs
        return fit(task, task.network.parameters(), epochs=epochs, aux_loss=critic)

    return train
