"""A few operations of one strength, drawn anew for every image."""

from typing import Annotated

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from evaluation.core.types import Array
from members.augmentations import photometric
from members.augmentations.augmentation_base import Augmentation
from members.augmentations.geometric import warp

TONES = (
    photometric.autocontrast,
    photometric.equalize,
    photometric.brightness,
    photometric.contrast,
    photometric.sharpness,
    photometric.posterize,
    photometric.solarize,
)
MOVES = ("rotate", "shear_x", "shear_y", "translate_x", "translate_y")
FULL = 30.0  # the paper's scale of magnitudes
# What full magnitude means, from AutoAugment; its shift is 150 of 331 pixels.
FULL_DEGREES, FULL_SHEAR, FULL_SHIFT = 30.0, 0.3, 150 / 331


def rand_augment(
    *,
    operations: Annotated[int, Field(ge=1)] = 2,
    magnitude: Annotated[float, Field(ge=0, le=FULL)] = 9.0,
) -> Augmentation:
    """Apply operations drawn for every image, each as likely: RandAugment.

    They are identity, autocontrast, equalize, brightness, contrast, sharpness, posterize, solarize,
    rotate, shear and translate along either axis: the paper's without colour. The last five move
    the mask too; pixels from outside are black and unlabelled.

    Args:
        operations: how many an image, one after the other; the paper's N.
        magnitude: strength of them all, from 0 to 30; the paper's M.

    Source: Cubuk et al., "RandAugment: Practical Automated Data Augmentation with a Reduced Search
        Space", 2020.
    """

    def augmentation(
        images: Tensor, masks: Tensor, rng: np.random.Generator
    ) -> tuple[Tensor, Tensor]:
        images, masks = images.clone(), masks.clone()
        for _ in range(operations):
            drawn = rng.integers(1 + len(TONES) + len(MOVES), size=len(images))
            signed = magnitude / FULL * rng.choice((-1.0, 1.0), size=len(images))
            strengths = torch.from_numpy(signed).float().to(images.device)
            for place, tone in enumerate(TONES, start=1):
                chosen = _places(drawn == place, images)
                if len(chosen):
                    toned = tone(images[chosen], strengths[chosen, None, None, None])
                    images.index_copy_(0, chosen, toned)
            chosen = _places(drawn > len(TONES), images)
            if len(chosen):
                moves = drawn[drawn > len(TONES)] - len(TONES) - 1
                matrices, shifts = _moves(moves, strengths[chosen], *masks.shape[1:])
                moved, labels = warp(images[chosen], masks[chosen], matrices, shifts)
                images.index_copy_(0, chosen, moved)
                masks.index_copy_(0, chosen, labels)
        return images, masks

    return augmentation


def _places(drawn: Array, images: Tensor) -> Tensor:
    return torch.from_numpy(np.flatnonzero(drawn)).to(images.device)


def _moves(drawn: Array, strengths: Tensor, rows: int, cols: int) -> tuple[Tensor, Tensor]:
    """Return the matrix and the shift of the drawn moves, as `warp` takes them."""
    is_move = torch.from_numpy(drawn[:, None] == np.arange(len(MOVES))).to(strengths.device)
    rotate, shear_x, shear_y, shift_x, shift_y = (strengths[:, None] * is_move).T
    angle = torch.deg2rad(FULL_DEGREES * rotate)
    matrices = torch.stack(
        [
            torch.stack([angle.cos(), FULL_SHEAR * shear_x - angle.sin()], dim=-1),
            torch.stack([FULL_SHEAR * shear_y + angle.sin(), angle.cos()], dim=-1),
        ],
        dim=-2,
    )
    shifts = torch.stack([cols * FULL_SHIFT * shift_x, rows * FULL_SHIFT * shift_y], dim=-1)
    return matrices, shifts
