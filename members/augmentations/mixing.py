"""Images with a piece of another image.

Images with holes.

Images without one of their labels.
"""

from typing import Annotated, Literal

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from evaluation.core.classes import UNLABELLED
from evaluation.core.errors import BadSpec
from evaluation.core.types import Array
from members.augmentations.augmentation_base import Augmentation, bernoulli_mask, rectangles


def cut_mix(
    *,
    alpha: Annotated[float, Field(gt=0)] = 1.0,
    probability: Annotated[float, Field(ge=0, le=1)] = 0.5,
) -> Augmentation:
    """Paste a rectangle of another image of the batch together with its labels.

    Labels of pixels travel with their pixels, so nothing is mixed as it is where an image has one
    label. A batch of one image stays as it is.

    Args:
        alpha: the share of the image that stays follows Beta(alpha, alpha), before the rectangle
            is cut off at the borders; 1 draws it evenly, less prefers the extremes.
        probability: share of the images that get a piece.

    Source: Yun et al., "CutMix: Regularization Strategy to Train Strong Classifiers with
        Localizable Features", 2019.
    """

    def augmentation(
        images: Tensor, masks: Tensor, rng: np.random.Generator
    ) -> tuple[Tensor, Tensor]:
        side = np.sqrt(1 - rng.beta(alpha, alpha, len(masks)))
        side *= rng.random(len(masks)) < probability
        heights, widths = (np.rint(side * length).astype(int) for length in masks.shape[1:])
        pasted = rectangles(masks, heights, widths, rng)
        other = torch.from_numpy(_another(len(masks), rng)).to(masks.device)
        return (
            torch.where(pasted[:, None], images[other], images),
            torch.where(pasted, masks[other], masks),
        )

    return augmentation


def _another(count: int, rng: np.random.Generator) -> Array:
    """Draw another place for each; a plain permutation would give some their own."""
    order = rng.permutation(count)
    other = np.empty_like(order)
    other[order] = np.roll(order, 1)
    return other


def cut_out(
    *,
    count: Annotated[int, Field(ge=1)] = 1,
    size: Annotated[float, Field(gt=0, le=1)] = 0.4,
    fill: Literal["zero", "mean"] = "zero",
    probability: Annotated[float, Field(ge=0, le=1)] = 0.5,
) -> Augmentation:
    """Cover rectangles; what is under them is unlabelled, since nobody could name it.

    Args:
        count: rectangles an image; they may overlap and are cut off at the borders.
        size: height and width of each are drawn up to this share of the image's.
        fill: `zero` paints them black, `mean` in the image's mean grey.
        probability: share of the images that get them.

    Source: DeVries and Taylor, "Improved Regularization of Convolutional Neural Networks with
        Cutout", 2017; squares of one size there.
    """

    def augmentation(
        images: Tensor, masks: Tensor, rng: np.random.Generator
    ) -> tuple[Tensor, Tensor]:
        largest = [max(1, round(size * length)) for length in masks.shape[1:]]
        covered = torch.zeros_like(masks, dtype=torch.bool)
        for _ in range(count):
            heights, widths = (rng.integers(1, most + 1, size=len(masks)) for most in largest)
            covered |= rectangles(masks, heights, widths, rng)
        covered &= bernoulli_mask(probability, images, rng)[:, None, None]
        paint = torch.zeros_like(images[:, :, :1, :1])
        if fill == "mean":
            paint = images.float().mean((2, 3), keepdim=True).round().to(images.dtype)
        return torch.where(covered[:, None], paint, images), masks.masked_fill(covered, UNLABELLED)

    return augmentation


def mask_dropout(
    *,
    label: Annotated[int, Field(ge=0, lt=UNLABELLED)] | None = None,
    probability: Annotated[float, Field(ge=0, le=1)] = 0.5,
) -> Augmentation:
    """Erase one label, all its pixels black and unlabelled, so that the others must do without it.

    The only label of an image is never erased.

    Args:
        label: class index of the one that is erased; None draws one of each image's.
        probability: share of the images that lose a label.

    Raises:
        BadSpec: a fixed label would be erased from every image.
    """
    if label is not None and probability == 1:
        raise BadSpec(f"would leave no image with class {label}; lower `probability`")

    def augmentation(
        images: Tensor, masks: Tensor, rng: np.random.Generator
    ) -> tuple[Tensor, Tensor]:
        present = torch.zeros(len(masks), UNLABELLED + 1, dtype=torch.bool, device=masks.device)
        present = present.scatter_(1, masks.flatten(1).long(), True)[:, :UNLABELLED]
        chances = torch.from_numpy(rng.random((len(masks), UNLABELLED))).to(masks.device)
        erased = (chances * present).argmax(dim=1)
        if label is not None:
            erased = torch.full_like(erased, label)
        chosen = bernoulli_mask(probability, images, rng) & (present.sum(dim=1) > 1)
        gone = (masks == erased[:, None, None]) & chosen[:, None, None]
        return images.masked_fill(gone[:, None], 0), masks.masked_fill(gone, UNLABELLED)

    return augmentation
