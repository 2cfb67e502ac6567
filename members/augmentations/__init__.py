"""Augmentations by name: each changes images and their masks together.

A factory returns an `Augmentation`, which every batch goes through, or an `OfflineAugmentation`,
which adds pairs to the training set once, before training.
"""

import os

from evaluation.core.specs import Table

# Albumentations, which this package alone imports, would ask the network for a newer version.
os.environ["NO_ALBUMENTATIONS_UPDATE"] = "1"

EIGHT_BITS = ("negative", "brightness_contrast", "noise", "blur", "rand_augment", "generated")
"""Those that work on grey values from 0 to 255; the others take any."""

PHOTOMETRIC = ("negative", "brightness_contrast", "noise", "blur")
"""Those that change grey values and move no pixel."""

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
