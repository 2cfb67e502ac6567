"""RandAugment: a few random operations of one strength per image."""

from typing import Annotated

import numpy as np
import torch
from numpy.random import Generator
from pydantic import Field
from torch import Tensor

from evaluation.core.types import Array
from members.augmentations import photometric
from members.augmentations.augment import Augmentation, Pair
from members.augmentations.sampling import warp
from members.devices import send

PHOTOMETRIC = (
    photometric.autocontrast,
    photometric.equalize,
    photometric.brightness,
    photometric.contrast,
    photometric.sharpness,
    photometric.posterize,
    photometric.solarize,
)
GEOMETRIC = ("rotate", "shear_x", "shear_y", "translate_x", "translate_y")
MAX_MAGNITUDE = 30.0  # the paper's scale
# At maximum magnitude, from AutoAugment; its shift is 150 of 331 pixels.
MAX_DEGREES, MAX_SHEAR, MAX_SHIFT = 30.0, 0.3, 150 / 331


def rand_augment(
    *,
    operations: Annotated[int, Field(ge=1, le=100)] = 2,
    magnitude: Annotated[float, Field(ge=0, le=MAX_MAGNITUDE)] = 9.0,
) -> Augmentation:
    """Apply random operations, chosen uniformly for every image: RandAugment.

    They are identity, autocontrast, equalize, brightness, contrast, sharpness, posterize, solarize,
    rotate, shear and translate along either axis: the paper's without colour. The geometric ones
    move the mask too; pixels from outside are black and unlabelled.

    Args:
        operations: number per image, applied one after the other; the paper's N.
        magnitude: strength of all of them, from 0 to 30; the paper's M.

    References:
        Cubuk et al., "RandAugment: Practical Automated Data Augmentation with a Reduced Search
        Space", 2020.
    """

    def augment(images: Tensor, masks: Tensor, rng: Generator) -> Pair:
        images, masks = images.clone(), masks.clone()
        for _ in range(operations):
            # 0 is identity, then the photometric operations, then the geometric ones.
            chosen = rng.integers(1 + len(PHOTOMETRIC) + len(GEOMETRIC), size=len(images))
            signed = magnitude / MAX_MAGNITUDE * rng.choice((-1.0, 1.0), size=len(images))
            strengths = send(torch.from_numpy(signed).float(), images.device)
            for number, operation in enumerate(PHOTOMETRIC, start=1):
                indices = _indices(chosen == number, images)
                if len(indices):
                    changed = operation(images[indices], strengths[indices, None, None, None])
                    images.index_copy_(0, indices, changed)
            geometric = chosen > len(PHOTOMETRIC)
            indices = _indices(geometric, images)
            if len(indices):
                operations_of = chosen[geometric] - len(PHOTOMETRIC) - 1
                affine = _affine_maps(operations_of, strengths[indices], *masks.shape[1:])
                moved, labels = warp(images[indices], masks[indices], *affine)
                images.index_copy_(0, indices, moved)
                masks.index_copy_(0, indices, labels)
        return images, masks

    return augment


def _indices(chosen: Array, images: Tensor) -> Tensor:
    return send(torch.from_numpy(np.flatnonzero(chosen)), images.device)


def _affine_maps(operations: Array, strengths: Tensor, rows: int, cols: int) -> Pair:
    """Return the matrices and the shifts of geometric operations, as `warp` takes them."""
    one_hot = torch.from_numpy(operations[:, None] == np.arange(len(GEOMETRIC)))
    rotate, shear_x, shear_y, shift_x, shift_y = (
        strengths[:, None] * send(one_hot, strengths.device)
    ).T
    angle = torch.deg2rad(MAX_DEGREES * rotate)
    matrices = torch.stack(
        [
            torch.stack([angle.cos(), MAX_SHEAR * shear_x - angle.sin()], dim=-1),
            torch.stack([MAX_SHEAR * shear_y + angle.sin(), angle.cos()], dim=-1),
        ],
        dim=-2,
    )
    shifts = torch.stack([cols * MAX_SHIFT * shift_x, rows * MAX_SHIFT * shift_y], dim=-1)
    return matrices, shifts
