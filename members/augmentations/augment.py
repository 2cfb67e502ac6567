"""What an augmentation is, and the augmentations of a recipe applied in order."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Annotated

import torch
from numpy.random import Generator
from pydantic import Field
from torch import Tensor

from evaluation.core.errors import BadData
from evaluation.core.specs import Spec, parse_spec
from members.augmentations import AUGMENTATIONS, EIGHT_BITS, PHOTOMETRIC
from members.devices import send

Pair = tuple[Tensor, Tensor]
"""Images, uint8 (image, channel, row, col), and their masks, uint8 (image, row, col)."""

Augmentation = Callable[[Tensor, Tensor, Generator], Pair]
"""From images, masks and a random generator to new ones of the same shapes and device; the input
is not modified."""

Probability = Annotated[float, Field(ge=0, le=1)]


@dataclass(frozen=True)
class TrainingContext:
    """What offline augmentations need to know: number of classes, device, images per step."""

    classes: int
    device: str
    batch: int


class OfflineAugmentation(ABC):
    """Samples additional training pairs once, from the training part of a fold alone.

    They stay in that part, so they have their origin's group and fold by construction.
    """

    @abstractmethod
    def sample(
        self, images: Tensor, masks: Tensor, context: TrainingContext, rng: Generator
    ) -> Pair:
        """Return the pairs to add: any number, with the shapes and types of the given ones."""


def check_depth(specs: Sequence[str | Spec], dtype: str) -> None:
    """Refuse augmentations of 8-bit grey values for images of another type.

    Args:
        specs: of augmentations, which may hold others.
        dtype: of the images, such as `uint16`.

    Raises:
        BadData: the first of them.

    Examples:
        >>> check_depth(["flips", "offline(augmentations=[blur], copies=2)"], "uint8")
    """
    if dtype == "uint8":
        return
    pending: list[object] = list(specs)
    while pending:
        value = pending.pop(0)
        if isinstance(value, str):
            value = parse_spec(value)
        if isinstance(value, Spec):
            if value.name in EIGHT_BITS:
                raise BadData(
                    f"augmentation {value.name!r} needs images of 8 bits, these are {dtype}; leave"
                    " it out, or scale the images to 8 bits"
                )
            nested = [*value.arguments, *value.options.values()]
            pending += [v for v in nested if isinstance(v, Spec | list | tuple)]
        elif isinstance(value, list | tuple):
            pending += value


class Augment:
    """The augmentations of a recipe, in order.

    Args:
        specs: one per augmentation.
        channels: of an image, where more lie behind them that are no grey values; None for all.

    Raises:
        BadSpec: an unknown name or option, or an invalid option value.

    Examples:
        >>> import numpy as np
        >>> images, masks = torch.zeros(2, 1, 4, 4).byte(), torch.zeros(2, 4, 4).byte()
        >>> augment = Augment(["flips", "negative(probability=1)"])
        >>> augment(images, masks, np.random.default_rng(0))[0].unique()
        tensor([255], dtype=torch.uint8)
    """

    def __init__(self, specs: Sequence[str | Spec], channels: int | None = None) -> None:
        self._offline: list[OfflineAugmentation] = []
        self._online: list[Augmentation] = []
        for spec in specs:
            augmentation = AUGMENTATIONS.build(spec)
            name = parse_spec(spec).name if isinstance(spec, str) else spec.name
            if isinstance(augmentation, OfflineAugmentation):
                self._offline.append(augmentation)
            elif channels is not None and name in PHOTOMETRIC:
                self._online.append(_of_first_channels(augmentation, channels))
            else:
                self._online.append(augmentation)

    @property
    def is_online(self) -> bool:
        """Whether nothing is added before training."""
        return not self._offline

    def __call__(self, images: Tensor, masks: Tensor, rng: Generator) -> Pair:
        """Augment a batch."""
        for augmentation in self._online:
            images, masks = augmentation(images, masks, rng)
        return images, masks

    def extend_dataset(
        self, images: Tensor, masks: Tensor, context: TrainingContext, rng: Generator
    ) -> Pair:
        """Return the training images followed by what is added to them before training."""
        added = [each.sample(images, masks, context, rng) for each in self._offline]
        all_images, all_masks = zip((images, masks), *added, strict=True)
        return torch.cat(all_images), torch.cat(all_masks)


def _of_first_channels(augmentation: Augmentation, channels: int) -> Augmentation:
    def augment(images: Tensor, masks: Tensor, rng: Generator) -> Pair:
        changed, masks = augmentation(images[:, :channels], masks, rng)
        return torch.cat([changed, images[:, channels:]], dim=1), masks

    return augment


def bernoulli_mask(probability: float, images: Tensor, rng: Generator) -> Tensor:
    """Sample which images are changed: one bool per image, on the images' device."""
    return send(torch.from_numpy(rng.random(len(images)) < probability), images.device)
