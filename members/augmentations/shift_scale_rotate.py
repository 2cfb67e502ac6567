"""Pictures moved, zoomed and turned a little."""

from typing import Annotated

import albumentations
import cv2
from pydantic import Field

from evaluation.ground.classes import UNLABELLED


def shift_scale_rotate(
    *,
    shift: Annotated[float, Field(ge=0, le=1)] = 0.06,
    scale: Annotated[float, Field(ge=0, lt=1)] = 0.1,
    rotate: Annotated[float, Field(ge=0, le=180)] = 10.0,
    probability: Annotated[float, Field(ge=0, le=1)] = 0.5,
) -> albumentations.Affine:
    """Shift, zoom and rotate about the middle; pixels from outside the picture are unlabelled.

    Args:
        shift: at most this share of the height and width, either way.
        scale: zoom between 1 - scale and 1 + scale.
        rotate: at most so many degrees, either way.
        probability: share of the pictures that are moved.
    """
    return albumentations.Affine(
        translate_percent=(-shift, shift),
        scale=(1 - scale, 1 + scale),
        rotate=(-rotate, rotate),
        interpolation=cv2.INTER_LINEAR,
        mask_interpolation=cv2.INTER_NEAREST,
        border_mode=cv2.BORDER_CONSTANT,
        fill=0,
        fill_mask=UNLABELLED,
        p=probability,
    )
