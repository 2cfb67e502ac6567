"""Pictures with holes."""

from typing import Annotated, Literal

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from evaluation.ground.classes import UNLABELLED
from members.augmentations.chance import drawn, rectangles
from members.augmentations.kinds import Augmentation


def cut_out(
    *,
    count: Annotated[int, Field(ge=1)] = 1,
    size: Annotated[float, Field(gt=0, le=1)] = 0.4,
    fill: Literal["zero", "mean"] = "zero",
    probability: Annotated[float, Field(ge=0, le=1)] = 0.5,
) -> Augmentation:
    """Cover rectangles; what is under them is unlabelled, since nobody could name it.

    Args:
        count: rectangles a picture; they may overlap and are cut off at the borders.
        size: height and width of each are drawn up to this share of the picture's.
        fill: `zero` paints them black, `mean` in the picture's mean grey.
        probability: share of the pictures that get them.

    Source: DeVries and Taylor, "Improved Regularization of Convolutional Neural Networks with
        Cutout", 2017; squares of one size there.
    """

    def augmentation(
        pictures: Tensor, masks: Tensor, rng: np.random.Generator
    ) -> tuple[Tensor, Tensor]:
        largest = [max(1, round(size * length)) for length in masks.shape[1:]]
        covered = torch.zeros_like(masks, dtype=torch.bool)
        for _ in range(count):
            heights, widths = (rng.integers(1, most + 1, size=len(masks)) for most in largest)
            covered |= rectangles(masks, heights, widths, rng)
        covered &= drawn(probability, pictures, rng)[:, None, None]
        paint = torch.zeros_like(pictures[:, :, :1, :1])
        if fill == "mean":
            paint = pictures.float().mean((2, 3), keepdim=True).round().to(pictures.dtype)
        return torch.where(covered[:, None], paint, pictures), masks.masked_fill(
            covered, UNLABELLED
        )

    return augmentation
