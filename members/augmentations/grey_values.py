"""Other light, noise and focus: the pictures change, their masks stay."""

from typing import Annotated

import albumentations
import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from members.augmentations.chance import drawn
from members.augmentations.kinds import Augmentation
from members.augmentations.library import each_picture

Probability = Annotated[float, Field(ge=0, le=1)]
Share = Annotated[float, Field(ge=0, le=1)]


def negative(*, probability: Probability = 0.5) -> Augmentation:
    """Swap light and dark.

    Args:
        probability: share of the pictures that become their negative.
    """

    def augmentation(
        pictures: Tensor, masks: Tensor, rng: np.random.Generator
    ) -> tuple[Tensor, Tensor]:
        chosen = drawn(probability, pictures, rng)[:, None, None, None]
        return torch.where(chosen, 255 - pictures, pictures), masks

    return augmentation


def brightness_contrast(
    *, brightness: Share = 0.2, contrast: Share = 0.2, probability: Probability = 0.5
) -> Augmentation:
    """Multiply the grey values and add to them.

    Args:
        brightness: at most this share of white is added or taken away.
        contrast: grey values are multiplied by 1 - contrast to 1 + contrast.
        probability: share of the pictures that change.
    """
    transform = albumentations.RandomBrightnessContrast(
        brightness_limit=brightness, contrast_limit=contrast, p=probability
    )
    return each_picture(transform)


def noise(*, spread: Share = 0.05, probability: Probability = 0.5) -> Augmentation:
    """Add Gaussian noise, drawn for every pixel and channel.

    Args:
        spread: its standard deviation as a share of white, at most.
        probability: share of the pictures that change.
    """
    return each_picture(albumentations.GaussNoise(std_range=(0, spread), p=probability))


def blur(
    *, sigma_px: Annotated[float, Field(gt=0)] = 1.5, probability: Probability = 0.5
) -> Augmentation:
    """Blur by a Gaussian.

    Args:
        sigma_px: its standard deviation in pixels, at most.
        probability: share of the pictures that change.
    """
    return each_picture(albumentations.GaussianBlur(sigma_limit=(0, sigma_px), p=probability))
