"""Pictures moved, zoomed and turned a little; pixels from outside the picture are unlabelled."""

from typing import Annotated

import albumentations
import cv2
from pydantic import Field

from evaluation.ground.classes import UNLABELLED
from members.augmentations.kinds import Augmentation
from members.augmentations.library import each_picture

Probability = Annotated[float, Field(ge=0, le=1)]
Shift = Annotated[float, Field(ge=0, le=1)]
Zoom = Annotated[float, Field(ge=0, lt=1)]
Degrees = Annotated[float, Field(ge=0, le=180)]


def translation(*, shift: Shift = 0.1, probability: Probability = 0.5) -> Augmentation:
    """Shift by whole pixels.

    Args:
        shift: at most this share of the height and of the width, either way.
        probability: share of the pictures that are shifted.
    """
    return _affine(shift, 0.0, 0.0, probability)


def rotation(*, degrees: Degrees = 15.0, probability: Probability = 0.5) -> Augmentation:
    """Rotate about the middle.

    Args:
        degrees: at most so many, either way.
        probability: share of the pictures that are turned.
    """
    return _affine(0.0, 0.0, degrees, probability)


def scale(*, zoom: Zoom = 0.2, probability: Probability = 0.5) -> Augmentation:
    """Zoom in or out about the middle, height and width alike.

    Args:
        zoom: factors lie between 1 - zoom (smaller, with a margin) and 1 + zoom.
        probability: share of the pictures that are zoomed.
    """
    return _affine(0.0, zoom, 0.0, probability)


def shift_scale_rotate(
    *,
    shift: Shift = 0.06,
    scale: Zoom = 0.1,
    rotate: Degrees = 10.0,
    probability: Probability = 0.5,
) -> Augmentation:
    """Shift, zoom and rotate at once, so that the picture is interpolated once only.

    Args:
        shift: at most this share of the height and of the width, either way.
        scale: zoom between 1 - scale and 1 + scale.
        rotate: at most so many degrees, either way.
        probability: share of the pictures that are moved.
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
    return each_picture(transform)
