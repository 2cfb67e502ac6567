"""Images moved, zoomed and turned a little; pixels from outside the image are unlabelled.

Images bent like rubber.

Mirrored images.

Images and masks moved by a matrix each, all at once on their device.

The bridge to the library that moves single images.
"""

from typing import Annotated

import albumentations
import cv2
import numpy as np
import torch
from pydantic import Field
from torch import Tensor
from torch.nn import functional

from evaluation.core.classes import UNLABELLED
from members.augmentations.augmentation_base import Augmentation


def flips(*, horizontal: bool = True, vertical: bool = False) -> Augmentation:
    """Mirror half of the images, in each direction that is chosen.

    Args:
        horizontal: left and right change sides.
        vertical: up and down change sides; off, since terrain lies below the sky.
    """
    axes = [axis for axis, chosen in ((-1, horizontal), (-2, vertical)) if chosen]

    def augmentation(
        images: Tensor, masks: Tensor, rng: np.random.Generator
    ) -> tuple[Tensor, Tensor]:
        for axis in axes:
            mirrored = torch.from_numpy(rng.random(len(images)) < 0.5).to(images.device)
            images = torch.where(mirrored[:, None, None, None], images.flip(axis), images)
            masks = torch.where(mirrored[:, None, None], masks.flip(axis), masks)
        return images, masks

    return augmentation


def warp(images: Tensor, masks: Tensor, matrices: Tensor, shifts: Tensor) -> tuple[Tensor, Tensor]:
    """Move images and masks; pixels from outside are black and unlabelled.

    Args:
        images: uint8, (image, channel, row, col); interpolated linearly.
        masks: uint8, (image, row, col); each pixel takes the label of the nearest.
        matrices: (image, 2, 2); the pixel at (x, y) from the middle comes from matrix (x, y).
        shifts: (image, 2); added to that, (x, y) in pixels.
    """
    grid = _grid(matrices.float(), shifts.float(), *masks.shape[1:])
    moved = functional.grid_sample(images.float(), grid, align_corners=True)
    # Outside, the sampler sees 0; labels are turned over so that this means unlabelled.
    labels = functional.grid_sample(
        (UNLABELLED - masks).float()[:, None], grid, mode="nearest", align_corners=True
    )
    return moved.round().to(images.dtype), UNLABELLED - labels[:, 0].to(masks.dtype)


def _grid(matrices: Tensor, shifts: Tensor, rows: int, cols: int) -> Tensor:
    """Return where each pixel comes from, (image, row, col, 2), as (x, y) from -1 to 1."""
    x = torch.arange(cols, device=shifts.device) - (cols - 1) / 2
    y = torch.arange(rows, device=shifts.device)[:, None] - (rows - 1) / 2
    to_x, to_y = matrices[..., None, None].unbind(1)
    shift_x, shift_y = shifts[..., None, None].unbind(1)
    # Written out: a product with matrices as small as these takes several times as long.
    from_x = to_x[:, 0] * x + (to_x[:, 1] * y + shift_x)
    from_y = to_y[:, 0] * x + (to_y[:, 1] * y + shift_y)
    ends = from_x * (2 / max(cols - 1, 1)), from_y * (2 / max(rows - 1, 1))
    return torch.stack(ends, dim=1).movedim(1, -1)


def each_image(transform: albumentations.BasicTransform) -> Augmentation:
    """Make an augmentation of a transform that takes one image at a time, channels last."""
    compose = albumentations.Compose([transform], seed=0)

    def augmentation(
        images: Tensor, masks: Tensor, rng: np.random.Generator
    ) -> tuple[Tensor, Tensor]:
        compose.set_random_seed(int(rng.integers(2**31)))
        last = np.ascontiguousarray(images.cpu().numpy().transpose(0, 2, 3, 1))
        pairs = [
            compose(image=image, mask=mask)
            for image, mask in zip(last, masks.cpu().numpy(), strict=True)
        ]
        moved = np.stack([pair["image"] for pair in pairs])
        # The library drops the channel of a grey image in some transforms.
        moved = moved.reshape(last.shape).transpose(0, 3, 1, 2)
        labels = np.stack([pair["mask"] for pair in pairs])
        return tuple(
            torch.from_numpy(np.ascontiguousarray(array)).to(images.device)
            for array in (moved, labels)
        )  # type: ignore[return-value]

    return augmentation


Probability = Annotated[float, Field(ge=0, le=1)]
Shift = Annotated[float, Field(ge=0, le=1)]
Zoom = Annotated[float, Field(ge=0, lt=1)]
Degrees = Annotated[float, Field(ge=0, le=180)]


def translation(*, shift: Shift = 0.1, probability: Probability = 0.5) -> Augmentation:
    """Shift by whole pixels.

    Args:
        shift: at most this share of the height and of the width, either way.
        probability: share of the images that are shifted.
    """
    return _affine(shift, 0.0, 0.0, probability)


def rotation(*, degrees: Degrees = 15.0, probability: Probability = 0.5) -> Augmentation:
    """Rotate about the middle.

    Args:
        degrees: at most so many, either way.
        probability: share of the images that are turned.
    """
    return _affine(0.0, 0.0, degrees, probability)


def scale(*, zoom: Zoom = 0.2, probability: Probability = 0.5) -> Augmentation:
    """Zoom in or out about the middle, height and width alike.

    Args:
        zoom: factors lie between 1 - zoom (smaller, with a margin) and 1 + zoom.
        probability: share of the images that are zoomed.
    """
    return _affine(0.0, zoom, 0.0, probability)


def shift_scale_rotate(
    *,
    shift: Shift = 0.06,
    scale: Zoom = 0.1,
    rotate: Degrees = 10.0,
    probability: Probability = 0.5,
) -> Augmentation:
    """Shift, zoom and rotate at once, so that the image is interpolated once only.

    Args:
        shift: at most this share of the height and of the width, either way.
        scale: zoom between 1 - scale and 1 + scale.
        rotate: at most so many degrees, either way.
        probability: share of the images that are moved.
    """
    return _affine(shift, scale, rotate, probability)


def _affine(shift: float, zoom: float, degrees: float, probability: float) -> Augmentation:
    transform = albumentations.Affine(
        translate_percent=(-shift, shift),
        scale=(1 - zoom, 1 + zoom),
        rotate=(-degrees, degrees),
        keep_ratio=True,
        interpolation=cv2.INTER_LINEAR,
        mask_interpolation=cv2.INTER_NEAREST,
        border_mode=cv2.BORDER_CONSTANT,
        fill=0,
        fill_mask=UNLABELLED,
        p=probability,
    )
    return each_image(transform)


def elastic(
    *,
    alpha: Annotated[float, Field(ge=0)] = 60.0,
    sigma: Annotated[float, Field(gt=0)] = 6.0,
    probability: Annotated[float, Field(ge=0, le=1)] = 0.5,
) -> Augmentation:
    """Displace every pixel by smoothed noise; pixels from outside the image are unlabelled.

    Displacements have a standard deviation of about alpha / (6.1 sigma) pixels: 1.6 by default.

    Args:
        alpha: the noise is drawn evenly from -alpha to alpha pixels, before it is smoothed.
        sigma: standard deviation in pixels of the Gaussian that smooths it; neighbours this near
            move together.
        probability: share of the images that are bent.

    Source: Simard, Steinkraus and Platt, "Best Practices for Convolutional Neural Networks Applied
        to Visual Document Analysis", 2003.
    """
    transform = albumentations.ElasticTransform(
        alpha=alpha,
        sigma=sigma,
        noise_distribution="uniform",  # the paper's; a Gaussian is divided by its largest draw here
        interpolation=cv2.INTER_LINEAR,
        mask_interpolation=cv2.INTER_NEAREST,
        border_mode=cv2.BORDER_CONSTANT,
        fill=0,
        fill_mask=UNLABELLED,
        p=probability,
    )
    return each_image(transform)
