"""Mirrored pictures."""

import numpy as np
import torch
from torch import Tensor

from members.augmentations.kinds import Augmentation


def flips(*, horizontal: bool = True, vertical: bool = False) -> Augmentation:
    """Mirror half of the pictures, in each direction that is chosen.

    Args:
        horizontal: left and right change sides.
        vertical: up and down change sides; off, since terrain lies below the sky.
    """
    axes = [axis for axis, chosen in ((-1, horizontal), (-2, vertical)) if chosen]

    def augmentation(
        pictures: Tensor, masks: Tensor, rng: np.random.Generator
    ) -> tuple[Tensor, Tensor]:
        for axis in axes:
            mirrored = torch.from_numpy(rng.random(len(pictures)) < 0.5).to(pictures.device)
            pictures = torch.where(mirrored[:, None, None, None], pictures.flip(axis), pictures)
            masks = torch.where(mirrored[:, None, None], masks.flip(axis), masks)
        return pictures, masks

    return augmentation
