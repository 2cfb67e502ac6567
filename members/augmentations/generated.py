"""Pictures that a Pix2Pix paints from masks: additional training pairs."""

from typing import Annotated

import numpy as np
import torch
from pydantic import Field
from torch import Tensor
from torch.nn import functional

from evaluation.ground.classes import UNLABELLED
from evaluation.ground.errors import EnsError
from members.augmentations.flips import flips
from members.augmentations.kinds import Ground, OffLine
from members.devices import autocast
from members.discriminator import BETAS, RATE, Judge, PatchGAN
from members.network import Network

DISTANCE_WEIGHT = 10.0
"""Of the L1 distance (of values from -1 to 1) beside the adversarial loss; the paper's 100 leaves
ground of one class without texture."""

NOISE_PLANES = 4


class Generated(OffLine):
    """Trains a generator from masks to pictures, then paints mirrored training masks with it."""

    def __init__(self, share: float, epochs: int, width: int) -> None:
        self._share, self._epochs, self._width = share, epochs, width

    def draw(
        self, pictures: Tensor, masks: Tensor, ground: Ground, rng: np.random.Generator
    ) -> tuple[Tensor, Tensor]:
        """Return painted pictures with the masks that they were painted from."""
        generator = self._trained(pictures, masks, ground, rng)
        chosen = rng.choice(len(masks), max(1, round(self._share * len(masks))), replace=False)
        _, wanted = flips()(pictures[chosen], masks[chosen], rng)
        # Batch statistics and dropout stay on, as in the paper.
        with torch.no_grad(), autocast(ground.device, "auto")():
            painted = [
                generator(_with_noise(one_hot(part, ground.classes))).sigmoid().mul(255).round()
                for part in torch.split(wanted, ground.batch)
            ]
        return torch.cat(painted).to(torch.uint8), wanted

    def _trained(
        self, pictures: Tensor, masks: Tensor, ground: Ground, rng: np.random.Generator
    ) -> Network:
        channels = pictures.shape[1]
        generator = Network(
            f"pix2pix(width={self._width})",
            channels=ground.classes + NOISE_PLANES,
            classes=channels,
        ).to(ground.device)
        judge = Judge(PatchGAN(ground.classes + channels, self._width).to(ground.device))
        optimizer = torch.optim.Adam(generator.parameters(), lr=RATE, betas=BETAS)
        for _ in range(self._epochs):
            order = torch.from_numpy(rng.permutation(len(pictures))).to(pictures.device)
            for places in order.tensor_split(-(-len(order) // ground.batch)):
                seen, labels = flips()(pictures[places], masks[places], rng)
                condition, true = one_hot(labels, ground.classes), seen.float() / 127.5 - 1
                with autocast(ground.device, "auto")():
                    logits = generator(_with_noise(condition))
                made = 2 * logits.float().sigmoid() - 1
                loss = DISTANCE_WEIGHT * functional.l1_loss(made, true)
                loss = loss + judge(condition, true, made)
                if not torch.isfinite(loss):
                    raise EnsError("the loss of augmentation 'generated' is no number any more")
                optimizer.zero_grad(set_to_none=True)
                loss.backward()  # type: ignore[no-untyped-call]
                optimizer.step()
        return generator


def one_hot(masks: Tensor, classes: int) -> Tensor:
    """Return masks (picture, row, col) as planes (picture, class, row, col); 255 is in none."""
    labelled = masks != UNLABELLED
    planes = functional.one_hot(torch.where(labelled, masks, 0).long(), classes)
    return (planes * labelled[..., None]).movedim(-1, 1).float()


def _with_noise(condition: Tensor) -> Tensor:
    """Add planes of noise: the paper's dropout drops whole planes here, and paints no texture."""
    rows, cols = condition.shape[2:]
    noise = torch.randn(len(condition), NOISE_PLANES, rows, cols, device=condition.device)
    return torch.cat([condition, noise], dim=1)


def generated(
    *,
    share: Annotated[float, Field(gt=0, le=1)] = 0.25,
    epochs: Annotated[int, Field(ge=1)] = 30,
    width: Annotated[int, Field(ge=1)] = 8,
) -> Generated:
    """Add pairs whose pictures a Pix2Pix paints, trained from masks to pictures inside the fold.

    It sees the training part of the fold alone; neither the fold's held-out pictures nor those that
    stop the training. The masks are training masks, half of them mirrored.

    Args:
        share: of the number of training pictures, how many pairs are added.
        epochs: of the generator's training, which comes before the member's.
        width: channels of the first level of generator and discriminator.

    Source: Isola et al., "Image-to-Image Translation with Conditional Adversarial Networks", 2017.
    """
    return Generated(share, epochs, width)
