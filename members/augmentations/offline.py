"""Augmented copies made once, before training, instead of anew for every batch.

Images that a Pix2Pix paints from masks: additional training pairs.
"""

from typing import Annotated

import numpy as np
import torch
from pydantic import Field
from torch import Tensor
from torch.nn import functional

from evaluation.core.classes import UNLABELLED
from evaluation.core.errors import BadSpec, EnsError
from evaluation.core.specs import Spec
from members.augmentations import Augment
from members.augmentations.augmentation_base import OfflineAugmentation, TrainingContext
from members.augmentations.geometric import flips
from members.data.cleaning.rules import identical
from members.devices import autocast
from members.network import NormalisedNetwork
from members.trainers.adversarial import (
    BETAS,
    RATE,
    AdversarialCritic,
    PatchGAN,
)


class Copies(OfflineAugmentation):
    """Copies of every image, each through the same augmentations with other draws."""

    def __init__(self, augment: Augment, times: int) -> None:
        self._augment, self._times = augment, times

    def draw(
        self, images: Tensor, masks: Tensor, ground: TrainingContext, rng: np.random.Generator
    ) -> tuple[Tensor, Tensor]:
        """Return the copies without those that equal an image, or an earlier copy."""
        drawn = [(images, masks)]
        drawn += [self._round(images, masks, ground, rng) for _ in range(self._times - 1)]
        all_images, all_masks = (torch.cat(parts) for parts in zip(*drawn, strict=True))
        fresh = torch.ones(len(all_images), dtype=torch.bool)
        for places in identical(all_images.cpu().numpy()):
            fresh[places[1:]] = False
        fresh[: len(images)] = False
        fresh = fresh.to(images.device)
        return all_images[fresh], all_masks[fresh]

    def _round(
        self, images: Tensor, masks: Tensor, ground: TrainingContext, rng: np.random.Generator
    ) -> tuple[Tensor, Tensor]:
        order = torch.from_numpy(rng.permutation(len(images))).to(images.device)
        batches = torch.split(order, ground.batch)
        parts = [self._augment(images[places], masks[places], rng) for places in batches]
        moved, labels = (torch.cat(part) for part in zip(*parts, strict=True))
        return moved, labels


def offline(
    *,
    by: Annotated[list[str | Spec], Field(min_length=1)],
    times: Annotated[int, Field(ge=2, le=100)] = 2,
) -> Copies:
    """Make the training set `times` as large by augmented copies, made once before training.

    Copies that come out equal to their origin or to another copy are dropped, so the set may end
    smaller. For an augmentation of every batch anew, which costs no memory, name it by itself.

    Args:
        by: augmentations, in order, such as `[flips, elastic]`.
        times: images and copies together, as a multiple of the images.
    """
    augment = Augment(by)
    if not augment.only_on_line:
        raise BadSpec("option 'by' got one that works off line itself; name it beside `offline`")
    return Copies(augment, times)


DISTANCE_WEIGHT = 10.0
"""Of the L1 distance (of values from -1 to 1) beside the adversarial loss; the paper's 100 leaves
ground of one class without texture."""

NOISE_PLANES = 4


class Generated(OfflineAugmentation):
    """Trains a generator from masks to images, then paints mirrored training masks with it."""

    def __init__(self, share: float, epochs: int, width: int) -> None:
        self._share, self._epochs, self._width = share, epochs, width

    def draw(
        self, images: Tensor, masks: Tensor, ground: TrainingContext, rng: np.random.Generator
    ) -> tuple[Tensor, Tensor]:
        """Return painted images with the masks that they were painted from."""
        generator = self._trained(images, masks, ground, rng)
        chosen = rng.choice(len(masks), max(1, round(self._share * len(masks))), replace=False)
        _, wanted = flips()(images[chosen], masks[chosen], rng)
        # Batch statistics and dropout stay on, as in the paper.
        with torch.no_grad(), autocast(ground.device, "auto")():
            painted = [
                generator(_with_noise(one_hot(part, ground.classes))).sigmoid().mul(255).round()
                for part in torch.split(wanted, ground.batch)
            ]
        return torch.cat(painted).to(torch.uint8), wanted

    def _trained(
        self, images: Tensor, masks: Tensor, ground: TrainingContext, rng: np.random.Generator
    ) -> NormalisedNetwork:
        channels = images.shape[1]
        generator = NormalisedNetwork(
            f"pix2pix(width={self._width})",
            channels=ground.classes + NOISE_PLANES,
            classes=channels,
        ).to(ground.device)
        judge = AdversarialCritic(
            PatchGAN(ground.classes + channels, self._width).to(ground.device)
        )
        optimizer = torch.optim.Adam(generator.parameters(), lr=RATE, betas=BETAS)
        for _ in range(self._epochs):
            order = torch.from_numpy(rng.permutation(len(images))).to(images.device)
            for places in order.tensor_split(-(-len(order) // ground.batch)):
                seen, labels = flips()(images[places], masks[places], rng)
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
    """Return masks (image, row, col) as planes (image, class, row, col); 255 is in none."""
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
    """Add pairs whose images a Pix2Pix paints, trained from masks to images inside the fold.

    It sees the training part of the fold alone; neither the fold's held-out images nor those that
    stop the training. The masks are training masks, half of them mirrored.

    Args:
        share: of the number of training images, how many pairs are added.
        epochs: of the generator's training, which comes before the member's.
        width: channels of the first level of generator and discriminator.

    Source: Isola et al., "Image-to-Image Translation with Conditional Adversarial Networks", 2017.
    """
    return Generated(share, epochs, width)
