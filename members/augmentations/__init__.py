"""Augmentations by name: each moves a picture and its mask together.

A factory gives an albumentations transform. The library asks the network for a newer version
when it is imported, unless told not to; this is the only room that imports it.
"""

import os

import numpy as np

os.environ["NO_ALBUMENTATIONS_UPDATE"] = "1"

from collections.abc import Sequence

from evaluation.ground.arrays import Labels, Pictures
from evaluation.ground.specs import Table

AUGMENTATIONS = Table(
    "augmentation",
    {
        "flips": "members.augmentations.flips:flips",
        "shift_scale_rotate": "members.augmentations.shift_scale_rotate:shift_scale_rotate",
    },
)


class Augment:
    """Augmentations one after the other, drawn from one seed.

    Args:
        specs: the augmentations, in order.
        seed: same seed, same draws.
    """

    def __init__(self, specs: Sequence[str], *, seed: int) -> None:
        import albumentations

        steps = [AUGMENTATIONS.build(spec) for spec in specs]
        self._transform = albumentations.Compose(steps, seed=seed)

    def __call__(self, pictures: Pictures, masks: Labels) -> tuple[Pictures, Labels]:
        """Augment each picture (picture, channel, row, col) with its mask (picture, row, col)."""
        if not self._transform.transforms:
            return pictures, masks
        # The library takes one picture at a time, channels last.
        pairs = [
            self._transform(image=np.ascontiguousarray(picture.transpose(1, 2, 0)), mask=mask)
            for picture, mask in zip(pictures, masks, strict=True)
        ]
        moved = np.stack([pair["image"] for pair in pairs])
        return moved.transpose(0, 3, 1, 2), np.stack([pair["mask"] for pair in pairs])
