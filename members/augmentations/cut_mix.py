"""Pictures with a piece of another picture."""

from typing import Annotated

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from evaluation.ground.arrays import Array
from members.augmentations.chance import rectangles
from members.augmentations.kinds import Augmentation


def cut_mix(
    *,
    alpha: Annotated[float, Field(gt=0)] = 1.0,
    probability: Annotated[float, Field(ge=0, le=1)] = 0.5,
) -> Augmentation:
    """Paste a rectangle of another picture of the batch together with its labels.

    Labels of pixels travel with their pixels, so nothing is mixed as it is where a picture has one
    label. A batch of one picture stays as it is.

    Args:
        alpha: the share of the picture that stays follows Beta(alpha, alpha), before the rectangle
            is cut off at the borders; 1 draws it evenly, less prefers the extremes.
        probability: share of the pictures that get a piece.

    Source: Yun et al., "CutMix: Regularization Strategy to Train Strong Classifiers with
        Localizable Features", 2019.
    """

    def augmentation(
        pictures: Tensor, masks: Tensor, rng: np.random.Generator
    ) -> tuple[Tensor, Tensor]:
        side = np.sqrt(1 - rng.beta(alpha, alpha, len(masks)))
        side *= rng.random(len(masks)) < probability
        heights, widths = (np.rint(side * length).astype(int) for length in masks.shape[1:])
        pasted = rectangles(masks, heights, widths, rng)
        other = torch.from_numpy(_another(len(masks), rng)).to(masks.device)
        return (
            torch.where(pasted[:, None], pictures[other], pictures),
            torch.where(pasted, masks[other], masks),
        )

    return augmentation


def _another(count: int, rng: np.random.Generator) -> Array:
    """Draw another place for each; a plain permutation would give some their own."""
    order = rng.permutation(count)
    other = np.empty_like(order)
    other[order] = np.roll(order, 1)
    return other
