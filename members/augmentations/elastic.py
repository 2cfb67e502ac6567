"""Pictures bent like rubber."""

from typing import Annotated

import albumentations
import cv2
from pydantic import Field

from evaluation.ground.classes import UNLABELLED
from members.augmentations.kinds import Augmentation
from members.augmentations.library import each_picture


def elastic(
    *,
    alpha: Annotated[float, Field(ge=0)] = 60.0,
    sigma: Annotated[float, Field(gt=0)] = 6.0,
    probability: Annotated[float, Field(ge=0, le=1)] = 0.5,
) -> Augmentation:
    """Displace every pixel by smoothed noise; pixels from outside the picture are unlabelled.

    Displacements have a standard deviation of about alpha / (6.1 sigma) pixels: 1.6 by default.

    Args:
        alpha: the noise is drawn evenly from -alpha to alpha pixels, before it is smoothed.
        sigma: standard deviation in pixels of the Gaussian that smooths it; neighbours this near
            move together.
        probability: share of the pictures that are bent.

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
    return each_picture(transform)
