"""Augmentations by name: each changes images and their masks together.

A factory gives an `Augmentation`, which every batch goes through, or an `OfflineAugmentation`, which adds pairs
to the training images once, before training. The library behind some of them asks the network for
a newer version when it is imported, unless told not to; this is the only room that imports it.
"""

import os

os.environ["NO_ALBUMENTATIONS_UPDATE"] = "1"

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from evaluation.core.specs import Spec, Table
from members.augmentations.augmentation_base import (
    Augmentation,
    OfflineAugmentation,
    TrainingContext,
)

AUGMENTATIONS = Table(
    "augmentation",
    {
        "flips": "members.augmentations.geometric:flips",
        "translation": "members.augmentations.geometric:translation",
        "rotation": "members.augmentations.geometric:rotation",
        "scale": "members.augmentations.geometric:scale",
        "shift_scale_rotate": "members.augmentations.geometric:shift_scale_rotate",
        "elastic": "members.augmentations.geometric:elastic",
        "negative": "members.augmentations.photometric:negative",
        "brightness_contrast": "members.augmentations.photometric:brightness_contrast",
        "noise": "members.augmentations.photometric:noise",
        "blur": "members.augmentations.photometric:blur",
        "cut_out": "members.augmentations.mixing:cut_out",
        "cut_mix": "members.augmentations.mixing:cut_mix",
        "mask_dropout": "members.augmentations.mixing:mask_dropout",
        "rand_augment": "members.augmentations.rand_augment:rand_augment",
        "generated": "members.augmentations.offline:generated",
        "offline": "members.augmentations.offline:offline",
    },
)


class Augment:
    """The augmentations of a recipe, in order.

    Args:
        specs: of each.

    Raises:
        BadSpec: an unknown name or option, or a value that its option does not take.
    """

    def __init__(self, specs: Sequence[str | Spec]) -> None:
        built = [AUGMENTATIONS.build(spec) for spec in specs]
        self._off_line: list[OfflineAugmentation] = [
            one for one in built if isinstance(one, OfflineAugmentation)
        ]
        self._on_line: list[Augmentation] = [
            one for one in built if not isinstance(one, OfflineAugmentation)
        ]

    @property
    def only_on_line(self) -> bool:
        """Whether nothing is added before training."""
        return not self._off_line

    def __call__(
        self, images: Tensor, masks: Tensor, rng: np.random.Generator
    ) -> tuple[Tensor, Tensor]:
        """Augment a batch: images (image, channel, row, col), masks (image, row, col)."""
        for augmentation in self._on_line:
            images, masks = augmentation(images, masks, rng)
        return images, masks

    def enlarge(
        self, images: Tensor, masks: Tensor, ground: TrainingContext, rng: np.random.Generator
    ) -> tuple[Tensor, Tensor]:
        """Return the training images followed by what is added to them before training."""
        drawn = [one.draw(images, masks, ground, rng) for one in self._off_line]
        more_images, more_masks = zip((images, masks), *drawn, strict=True)
        return torch.cat(more_images), torch.cat(more_masks)
