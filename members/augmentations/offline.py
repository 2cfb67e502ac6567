"""Augmentations that add training pairs once, before training: copies, and generated images."""

from typing import Annotated

import torch
from numpy.random import Generator
from pydantic import Field
from torch import Tensor
from torch.nn import functional

from evaluation.core.classes import UNLABELLED
from evaluation.core.errors import BadSpec, EnsError
from evaluation.core.specs import Spec
from members.architectures.blocks import Width
from members.augmentations.augment import Augment, OfflineAugmentation, Pair, TrainingContext
from members.augmentations.geometric import flips
from members.data.cleaning.rules import identical
from members.devices import Precision, send
from members.losses.pixel_weights import one_hot
from members.network import NormalisedNetwork
from members.trainers.adversarial import BETAS, LEARNING_RATE, AdversarialCritic, PatchGAN

DISTANCE_WEIGHT = 10.0
"""Weight of the L1 distance (of values from -1 to 1) relative to the adversarial loss; the paper's
100 leaves regions of one class without texture."""

NOISE_CHANNELS = 4


class AugmentedCopies(OfflineAugmentation):
    """Copies of every image, each through the same augmentations with other random draws."""

    def __init__(self, augment: Augment, copies: int) -> None:
        self._augment, self._copies = augment, copies

    def sample(
        self, images: Tensor, masks: Tensor, context: TrainingContext, rng: Generator
    ) -> Pair:
        """Return the copies without those that equal an image or an earlier copy."""
        pairs = [(images, masks)]
        pairs += [self._copy(images, masks, context, rng) for _ in range(self._copies - 1)]
        all_images, all_masks = (torch.cat(parts) for parts in zip(*pairs, strict=True))
        is_new = torch.ones(len(all_images), dtype=torch.bool)
        for indices in identical(all_images.cpu().numpy()):
            is_new[indices[1:]] = False
        is_new[: len(images)] = False
        is_new = is_new.to(images.device)
        return all_images[is_new], all_masks[is_new]

    def _copy(
        self, images: Tensor, masks: Tensor, context: TrainingContext, rng: Generator
    ) -> Pair:
        order = torch.from_numpy(rng.permutation(len(images))).to(images.device)
        batches = torch.split(order, context.batch)
        pairs = [self._augment(images[batch], masks[batch], rng) for batch in batches]
        all_images, all_masks = zip(*pairs, strict=True)
        return torch.cat(all_images), torch.cat(all_masks)


def offline(
    *,
    augmentations: Annotated[list[str | Spec], Field(min_length=1)],
    copies: Annotated[int, Field(ge=2, le=100)] = 2,
) -> AugmentedCopies:
    """Enlarge the training set by augmented copies, made once before training.

    Copies that equal their origin or another copy are dropped, so the set may end smaller than
    requested. To augment each batch again, which takes no memory, name the augmentation by itself.

    Args:
        augmentations: applied in order, such as `[flips, elastic]`.
        copies: of each image in the enlarged set, the original included.
    """
    augment = Augment(augmentations)
    if not augment.is_online:
        raise BadSpec(
            "option 'augmentations' got one that is offline itself; list it next to `offline`"
        )
    return AugmentedCopies(augment, copies)


class GeneratedPairs(OfflineAugmentation):
    """Trains a generator from masks to images, then generates images for mirrored masks."""

    def __init__(self, share: float, epochs: int, width: int) -> None:
        self._share, self._epochs, self._width = share, epochs, width

    def sample(
        self, images: Tensor, masks: Tensor, context: TrainingContext, rng: Generator
    ) -> Pair:
        """Return generated images with the masks that they were generated from."""
        generator = self._train(images, masks, context, rng)
        chosen = rng.choice(len(masks), max(1, round(self._share * len(masks))), replace=False)
        _, conditions = flips()(images[chosen], masks[chosen], rng)
        precision, generated = Precision(context.device), []
        # Batch statistics and dropout stay on, as in the paper.
        with torch.no_grad(), precision.kernels(), precision.autocast():
            for batch in torch.split(conditions, context.batch):
                planes = _planes(send(batch, context.device), context.classes)
                grey = generator(_with_noise(planes)).sigmoid().mul(255).round()
                generated.append(grey.to(torch.uint8).to(images.device))
        return torch.cat(generated), conditions

    def _train(
        self, images: Tensor, masks: Tensor, context: TrainingContext, rng: Generator
    ) -> NormalisedNetwork:
        channels = images.shape[1]
        generator = NormalisedNetwork(
            f"pix2pix(width={self._width})",
            channels=context.classes + NOISE_CHANNELS,
            classes=channels,
        ).to(context.device)
        discriminator = PatchGAN(context.classes + channels, self._width).to(context.device)
        critic = AdversarialCritic(discriminator)
        optimizer = torch.optim.Adam(generator.parameters(), lr=LEARNING_RATE, betas=BETAS)
        precision = Precision(context.device)
        for _ in range(self._epochs):
            order = torch.from_numpy(rng.permutation(len(images))).to(images.device)
            total_loss = torch.zeros((), device=context.device)
            for batch in order.tensor_split(-(-len(order) // context.batch)):
                grey, labels = (send(part[batch], context.device) for part in (images, masks))
                real, labels = flips()(grey, labels, rng)
                condition, real = _planes(labels, context.classes), real.float() / 127.5 - 1
                with precision.kernels():
                    with precision.autocast():
                        logits = generator(_with_noise(condition))
                    fake = 2 * logits.float().sigmoid() - 1
                    loss = DISTANCE_WEIGHT * functional.l1_loss(fake, real)
                    loss = loss + critic(condition, real, fake)
                    optimizer.zero_grad(set_to_none=True)
                    loss.backward()  # type: ignore[no-untyped-call]
                    optimizer.step()
                total_loss += loss.detach()
            if not torch.isfinite(total_loss):
                raise EnsError("the loss of augmentation 'generated' became NaN or infinite")
        return generator


def generated(
    *,
    share: Annotated[float, Field(gt=0, le=1)] = 0.25,
    epochs: Annotated[int, Field(ge=1, le=1_000_000)] = 30,
    width: Width = 8,
) -> GeneratedPairs:
    """Add pairs with images generated by a Pix2Pix that is trained inside the fold.

    The generator maps masks to images. It is trained on the training part of the fold alone, not on
    the images of the fold or of the holdout. The masks are training masks, half of them mirrored.

    Args:
        share: number of added pairs, as a fraction of the training images.
        epochs: of the generator's training, which precedes the member's.
        width: channels of the first level of generator and discriminator.

    References:
        Isola et al., "Image-to-Image Translation with Conditional Adversarial Networks", 2017.
    """
    return GeneratedPairs(share, epochs, width)


def _planes(masks: Tensor, classes: int) -> Tensor:
    return one_hot(masks, classes, masks != UNLABELLED)


def _with_noise(condition: Tensor) -> Tensor:
    """Add noise channels: the paper's noise by dropout gives no texture here."""
    rows, cols = condition.shape[2:]
    noise = torch.randn(len(condition), NOISE_CHANNELS, rows, cols, device=condition.device)
    return torch.cat([condition, noise], dim=1)
