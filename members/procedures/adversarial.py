"""Adversarial training: a discriminator learns to tell guessed masks from true ones."""

from collections.abc import Callable
from typing import Annotated, Any

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional

from members.losses.kept import kept_pixels
from members.procedures.fitting import History, Task, fit

LEAK = 0.2
RATE, BETAS = 2e-4, (0.5, 0.999)  # the paper's, for the discriminator


class PatchGAN(nn.Sequential):
    """Tells for each patch whether picture and mask belong together.

    (N, channels, H, W) to logits (N, 1, H / 4 - 2, W / 4 - 2); each sees 34 x 34 pixels, half the
    side of the paper's, as the pictures are smaller.

    Args:
        channels: of picture and mask together.
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


class Judge:
    """Trains a discriminator on each batch, then says how badly the network deceived it.

    Pixels that do not count are zero in true and guessed masks alike, so that they give no hint.

    Args:
        discriminator: over picture and mask side by side.
        ignore: the class whose pixels do not count, or None.
        weight: of the adversarial loss beside the recipe's.
    """

    def __init__(self, discriminator: nn.Module, *, ignore: int | None, weight: float) -> None:
        self._discriminator = discriminator
        self._optimizer = torch.optim.Adam(discriminator.parameters(), lr=RATE, betas=BETAS)
        self._ignore, self._weight = ignore, weight

    def __call__(self, pictures: Tensor, logits: Tensor, truth: Tensor) -> Tensor:
        """Return the weighted adversarial loss of the network."""
        kept = kept_pixels(truth, self._ignore)[:, None]
        seen = pictures.float() / 127.5 - 1
        label = torch.where(kept[:, 0], truth, 0).long()
        true = functional.one_hot(label, logits.shape[1]).movedim(-1, 1) * kept
        guessed = logits.softmax(dim=1) * kept
        told = self._told(seen, true.float(), real=True)
        told = (told + self._told(seen, guessed.detach(), real=False)) / 2
        self._optimizer.zero_grad(set_to_none=True)
        told.backward()  # type: ignore[no-untyped-call]
        self._optimizer.step()
        # What this one adds to the discriminator's gradients is cleared before its next step.
        return self._weight * self._told(seen, guessed, real=True)

    def _told(self, pictures: Tensor, masks: Tensor, *, real: bool) -> Tensor:
        said: Any = self._discriminator(torch.cat([pictures, masks], dim=1))
        wanted = torch.full_like(said, float(real))
        return functional.binary_cross_entropy_with_logits(said, wanted)


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
        judge = Judge(discriminator, ignore=task.ignore, weight=weight)
        epochs = task.recipe.epochs
        return fit(task, task.network.parameters(), epochs=epochs, judge=judge)

    return train
