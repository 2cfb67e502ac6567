"""Augmentations that move pixels; those from outside the image are black and unlabelled."""

import functools
from typing import Annotated, Any

import numpy as np
import torch
from numpy.random import Generator
from pydantic import Field
from torch import Tensor

from evaluation.core.classes import UNLABELLED
from members.augmentations import on_device
from members.augmentations.augment import Augmentation, Pair, Probability, bernoulli_mask
from members.augmentations.on_device import by_device


def flips(*, horizontal: bool = True, vertical: bool = False) -> Augmentation:
    """Mirror half of the images, independently in each chosen direction.

    Args:
        horizontal: left to right.
        vertical: upside down; off by default, since terrain lies below the sky.

    Examples:
        >>> images, masks = torch.tensor([[[[1, 2]]]]).byte(), torch.tensor([[[1, 2]]]).byte()
        >>> flips()(images, masks, np.random.default_rng(1))
        (tensor([[[[1, 2]]]], dtype=torch.uint8), tensor([[[1, 2]]], dtype=torch.uint8))
    """
    axes = [axis for axis, chosen in ((-1, horizontal), (-2, vertical)) if chosen]

    def augment(images: Tensor, masks: Tensor, rng: Generator) -> Pair:
        for axis in axes:
            mirrored = bernoulli_mask(0.5, images, rng)
            images = torch.where(mirrored[:, None, None, None], images.flip(axis), images)
            masks = torch.where(mirrored[:, None, None], masks.flip(axis), masks)
        return images, masks

    return augment


Shift = Annotated[float, Field(ge=0, le=1)]
Zoom = Annotated[float, Field(ge=0, lt=1)]
Degrees = Annotated[float, Field(ge=0, le=180)]


def translation(*, shift: Shift = 0.1, probability: Probability = 0.5) -> Augmentation:
    """Shift by whole pixels.

    Args:
        shift: maximum, as a fraction of the height and of the width, in either direction.
        probability: fraction of the images that are shifted.
    """
    return _affine(shift, 0.0, 0.0, probability)


def rotation(*, degrees: Degrees = 15.0, probability: Probability = 0.5) -> Augmentation:
    """Rotate about the centre.

    Args:
        degrees: maximum, in either direction.
        probability: fraction of the images that are rotated.
    """
    return _affine(0.0, 0.0, degrees, probability)


def scale(*, zoom: Zoom = 0.2, probability: Probability = 0.5) -> Augmentation:
    """Zoom in or out about the centre, with one factor for height and width.

    Args:
        zoom: factors lie between 1 - zoom (smaller, with a margin) and 1 + zoom.
        probability: fraction of the images that are zoomed.
    """
    return _affine(0.0, zoom, 0.0, probability)


def shift_scale_rotate(
    *,
    shift: Shift = 0.06,
    scale: Zoom = 0.1,
    rotate: Degrees = 10.0,
    probability: Probability = 0.5,
) -> Augmentation:
    """Shift, zoom and rotate in one step, so that the image is interpolated only once.

    Args:
        shift: as in `translation`.
        scale: `zoom` of `scale`.
        rotate: `degrees` of `rotation`.
        probability: fraction of the images that are changed.
    """
    return _affine(shift, scale, rotate, probability)


def elastic(
    *,
    alpha: Annotated[float, Field(ge=0, le=10_000)] = 60.0,
    sigma: Annotated[float, Field(gt=0, le=100)] = 6.0,
    probability: Probability = 0.5,
) -> Augmentation:
    """Displace every pixel by smoothed noise.

    Displacements have a standard deviation of about alpha / (6.1 sigma) pixels: 1.6 by default.

    Args:
        alpha: the noise is uniform between -alpha and alpha pixels, before it is smoothed.
        sigma: standard deviation, in pixels, of the Gaussian that smooths it.
        probability: fraction of the images that are deformed.

    References:
        Simard, Steinkraus and Platt, "Best Practices for Convolutional Neural Networks Applied to
        Visual Document Analysis", 2003.
    """
    on_cpu = per_image(
        "ElasticTransform",
        alpha=alpha,
        sigma=sigma,
        noise_distribution="uniform",  # the paper's; Gaussian noise is divided by its maximum here
        p=probability,
        **INTERPOLATION,
    )
    return by_device(on_cpu, on_device.elastic(alpha, sigma, probability))


INTERPOLATION = {
    "interpolation": 1,  # cv2.INTER_LINEAR
    "mask_interpolation": 0,  # cv2.INTER_NEAREST
    "border_mode": 0,  # cv2.BORDER_CONSTANT
    "fill": 0,
    "fill_mask": UNLABELLED,
}


def _affine(shift: float, zoom: float, degrees: float, probability: float) -> Augmentation:
    on_cpu = per_image(
        "Affine",
        translate_percent=(-shift, shift),
        scale=(1 - zoom, 1 + zoom),
        rotate=(-degrees, degrees),
        keep_ratio=True,
        p=probability,
        **INTERPOLATION,
    )
    return by_device(on_cpu, on_device.affine(shift, zoom, degrees, probability))


def per_image(transform: str, **options: Any) -> Augmentation:
    """Make an augmentation of an Albumentations transform, which takes one image at a time.

    Args:
        transform: its name; imported with the first batch, since batches on a GPU do without.
        options: of it.
    """

    @functools.cache
    def composed() -> Any:
        import albumentations

        return albumentations.Compose([getattr(albumentations, transform)(**options)], seed=0)

    def augment(images: Tensor, masks: Tensor, rng: Generator) -> Pair:
        compose = composed()
        compose.set_random_seed(int(rng.integers(2**31)))
        channels_last = np.ascontiguousarray(images.cpu().numpy().transpose(0, 2, 3, 1))
        pairs = [
            compose(image=image, mask=mask)
            for image, mask in zip(channels_last, masks.cpu().numpy(), strict=True)
        ]
        moved = np.stack([pair["image"] for pair in pairs])
        # Some transforms drop the channel axis of a grey image.
        moved = moved.reshape(channels_last.shape).transpose(0, 3, 1, 2)
        labels = np.stack([pair["mask"] for pair in pairs])
        return tuple(
            torch.from_numpy(np.ascontiguousarray(array)).to(images.device)
            for array in (moved, labels)
        )  # type: ignore[return-value]

    return augment
