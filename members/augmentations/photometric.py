"""Other light, noise and focus: the images change, their masks stay.

Changes of grey values by a strength, the photometric operations of RandAugment.

Each takes uint8 images (image, channel, row, col) and one signed strength an image between
-1 and 1, (image, 1, 1, 1), and returns images of the same type. The definitions are Pillow's
(`ImageOps`, `ImageEnhance`), from which AutoAugment took them, but that it sharpens no border.
"""

from typing import Annotated

import albumentations
import numpy as np
import torch
from pydantic import Field
from torch import Tensor
from torch.nn import functional

from members.augmentations.augmentation_base import Augmentation, bernoulli_mask
from members.augmentations.geometric import each_image

Probability = Annotated[float, Field(ge=0, le=1)]
Share = Annotated[float, Field(ge=0, le=1)]


def negative(*, probability: Probability = 0.5) -> Augmentation:
    """Swap light and dark.

    Args:
        probability: share of the images that become their negative.
    """

    def augmentation(
        images: Tensor, masks: Tensor, rng: np.random.Generator
    ) -> tuple[Tensor, Tensor]:
        chosen = bernoulli_mask(probability, images, rng)[:, None, None, None]
        return torch.where(chosen, 255 - images, images), masks

    return augmentation


def brightness_contrast(
    *, brightness: Share = 0.2, contrast: Share = 0.2, probability: Probability = 0.5
) -> Augmentation:
    """Multiply the grey values and add to them.

    Args:
        brightness: at most this share of white is added or taken away.
        contrast: grey values are multiplied by 1 - contrast to 1 + contrast.
        probability: share of the images that change.
    """
    transform = albumentations.RandomBrightnessContrast(
        brightness_limit=brightness, contrast_limit=contrast, p=probability
    )
    return each_image(transform)


def noise(*, spread: Share = 0.05, probability: Probability = 0.5) -> Augmentation:
    """Add Gaussian noise, drawn for every pixel and channel.

    Args:
        spread: its standard deviation as a share of white, at most.
        probability: share of the images that change.
    """
    return each_image(albumentations.GaussNoise(std_range=(0, spread), p=probability))


def blur(
    *, sigma_px: Annotated[float, Field(gt=0)] = 1.5, probability: Probability = 0.5
) -> Augmentation:
    """Blur by a Gaussian.

    Args:
        sigma_px: its standard deviation in pixels, at most.
        probability: share of the images that change.
    """
    return each_image(albumentations.GaussianBlur(sigma_limit=(0, sigma_px), p=probability))


BLEND = 0.9  # brightness, contrast and sharpness go from 1 - 0.9 to 1 + 0.9 times
LOST_BITS = 4  # of eight, at full strength


def autocontrast(images: Tensor, _: Tensor) -> Tensor:
    """Stretch each channel from black to white; a channel of one grey stays as it is."""
    low, high = images.amin((2, 3), keepdim=True), images.amax((2, 3), keepdim=True)
    stretched = (images - low).float() * (255 / (high - low).clamp(min=1))
    return torch.where(high > low, _grey(stretched), images)


def equalize(images: Tensor, _: Tensor) -> Tensor:
    """Spread the grey values of each channel so that all are about as frequent."""
    values = images.flatten(2).long()
    counts = values.new_zeros((*values.shape[:2], 256))
    counts = counts.scatter_add_(2, values, torch.ones_like(values))
    brightest = counts.gather(2, values.amax(2, keepdim=True))
    step = (values.shape[2] - brightest) // 255
    table = (counts.cumsum(2) - counts + step // 2) // step.clamp(min=1)
    equal = table.clamp(max=255).gather(2, values).reshape(images.shape).to(images.dtype)
    return torch.where(step[..., None] > 0, equal, images)


def brightness(images: Tensor, strength: Tensor) -> Tensor:
    """Multiply the grey values."""
    return _away_from(torch.zeros_like(images).float(), images, strength)


def contrast(images: Tensor, strength: Tensor) -> Tensor:
    """Bring the grey values nearer to the image's mean or farther from it."""
    return _away_from(images.float().mean((1, 2, 3), keepdim=True), images, strength)


def sharpness(images: Tensor, strength: Tensor) -> Tensor:
    """Blur a little or sharpen."""
    sharp = images.float()
    padded = functional.pad(sharp, (1, 1, 1, 1), mode="replicate")
    three = padded[..., :-2, :] + padded[..., 1:-1, :] + padded[..., 2:, :]
    nine = three[..., :-2] + three[..., 1:-1] + three[..., 2:]
    # Pillow's kernel: 5 in the middle, eight times 1 around it.
    return _away_from((nine + 4 * sharp) / 13, images, strength)


def posterize(images: Tensor, strength: Tensor) -> Tensor:
    """Clear the last bits."""
    bits = (LOST_BITS * strength.abs()).round().to(torch.uint8)
    return (images >> bits) << bits


def solarize(images: Tensor, strength: Tensor) -> Tensor:
    """Swap light and dark above a threshold, which is lower the greater the strength."""
    return torch.where(images >= 255 * (1 - strength.abs()), 255 - images, images)


def _away_from(dull: Tensor, images: Tensor, strength: Tensor) -> Tensor:
    return _grey(dull + (images.float() - dull) * (1 + BLEND * strength))


def _grey(values: Tensor) -> Tensor:
    return values.round().clamp(0, 255).to(torch.uint8)
