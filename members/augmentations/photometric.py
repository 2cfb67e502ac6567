"""Augmentations of grey values: the images change, their masks stay.

The second half are the photometric operations of RandAugment. Each takes uint8 images
(image, channel, row, col) and one signed strength per image between -1 and 1, (image, 1, 1, 1), and
returns images of the same type. They are Pillow's (`ImageOps`, `ImageEnhance`), from which
AutoAugment took them, except that here image borders are sharpened too.
"""

from typing import Annotated

import torch
from numpy.random import Generator
from pydantic import Field
from torch import Tensor
from torch.nn import functional

from members.augmentations import on_device
from members.augmentations.augment import Augmentation, Pair, Probability, bernoulli_mask
from members.augmentations.geometric import per_image
from members.augmentations.on_device import by_device

Fraction = Annotated[float, Field(ge=0, le=1)]


def negative(*, probability: Probability = 0.5) -> Augmentation:
    """Invert the grey values.

    Args:
        probability: fraction of the images that are inverted.

    Examples:
        >>> import numpy as np
        >>> images, masks = torch.full((1, 1, 1, 2), 55).byte(), torch.zeros(1, 1, 2).byte()
        >>> negative(probability=1.0)(images, masks, np.random.default_rng(0))[0]
        tensor([[[[200, 200]]]], dtype=torch.uint8)
    """

    def augment(images: Tensor, masks: Tensor, rng: Generator) -> Pair:
        chosen = bernoulli_mask(probability, images, rng)[:, None, None, None]
        return torch.where(chosen, 255 - images, images), masks

    return augment


def brightness_contrast(
    *, brightness: Fraction = 0.2, contrast: Fraction = 0.2, probability: Probability = 0.5
) -> Augmentation:
    """Multiply the grey values and add to them.

    Args:
        brightness: maximum offset in either direction, as a fraction of white.
        contrast: factors lie between 1 - contrast and 1 + contrast.
        probability: fraction of the images that are changed.
    """
    on_cpu = per_image(
        "RandomBrightnessContrast",
        brightness_limit=brightness,
        contrast_limit=contrast,
        p=probability,
    )
    return by_device(on_cpu, on_device.brightness_contrast(brightness, contrast, probability))


def noise(*, spread: Fraction = 0.05, probability: Probability = 0.5) -> Augmentation:
    """Add Gaussian noise, independent per pixel and channel.

    Args:
        spread: maximum standard deviation, as a fraction of white.
        probability: fraction of the images that are changed.
    """
    on_cpu = per_image("GaussNoise", std_range=(0, spread), p=probability)
    return by_device(on_cpu, on_device.noise(spread, probability))


def blur(
    *, sigma_px: Annotated[float, Field(gt=0, le=100)] = 1.5, probability: Probability = 0.5
) -> Augmentation:
    """Blur by a Gaussian.

    Args:
        sigma_px: maximum standard deviation in pixels.
        probability: fraction of the images that are changed.
    """
    on_cpu = per_image("GaussianBlur", sigma_limit=(0, sigma_px), p=probability)
    return by_device(on_cpu, on_device.blur(sigma_px, probability))


MAX_BLEND = 0.9  # brightness, contrast and sharpness are scaled by 1 - 0.9 to 1 + 0.9
MAX_CLEARED_BITS = 4  # of eight


def autocontrast(images: Tensor, _: Tensor) -> Tensor:
    """Stretch each channel to the range from black to white; a constant channel stays unchanged."""
    low, high = images.amin((2, 3), keepdim=True), images.amax((2, 3), keepdim=True)
    stretched = (images - low).float() * (255 / (high - low).clamp(min=1))
    return torch.where(high > low, _to_uint8(stretched), images)


def equalize(images: Tensor, _: Tensor) -> Tensor:
    """Equalise the histogram of each channel."""
    values = images.flatten(2).long()
    counts = values.new_zeros((*values.shape[:2], 256))
    counts = counts.scatter_add_(2, values, torch.ones_like(values))
    brightest = counts.gather(2, values.amax(2, keepdim=True))
    step = (values.shape[2] - brightest) // 255
    table = (counts.cumsum(2) - counts + step // 2) // step.clamp(min=1)
    equal = table.clamp(max=255).gather(2, values).reshape(images.shape).to(images.dtype)
    return torch.where(step[..., None] > 0, equal, images)


def brightness(images: Tensor, strength: Tensor) -> Tensor:
    """Scale the grey values."""
    return _blend_away(torch.zeros_like(images).float(), images, strength)


def contrast(images: Tensor, strength: Tensor) -> Tensor:
    """Move the grey values towards the image's mean or away from it."""
    return _blend_away(images.float().mean((1, 2, 3), keepdim=True), images, strength)


def sharpness(images: Tensor, strength: Tensor) -> Tensor:
    """Smooth or sharpen."""
    sharp = images.float()
    padded = functional.pad(sharp, (1, 1, 1, 1), mode="replicate")
    three = padded[..., :-2, :] + padded[..., 1:-1, :] + padded[..., 2:, :]
    nine = three[..., :-2] + three[..., 1:-1] + three[..., 2:]
    # Pillow's kernel: 5 at the centre, 1 at the eight neighbours.
    return _blend_away((nine + 4 * sharp) / 13, images, strength)


def posterize(images: Tensor, strength: Tensor) -> Tensor:
    """Clear the lowest bits."""
    bits = (MAX_CLEARED_BITS * strength.abs()).round().to(torch.uint8)
    return (images >> bits) << bits


def solarize(images: Tensor, strength: Tensor) -> Tensor:
    """Invert grey values above a threshold that falls with the strength."""
    return torch.where(images >= 255 * (1 - strength.abs()), 255 - images, images)


def _blend_away(degenerate: Tensor, images: Tensor, strength: Tensor) -> Tensor:
    return _to_uint8(degenerate + (images.float() - degenerate) * (1 + MAX_BLEND * strength))


def _to_uint8(values: Tensor) -> Tensor:
    return values.round().clamp(0, 255).to(torch.uint8)
