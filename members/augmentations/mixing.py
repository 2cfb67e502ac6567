"""Augmentations that replace parts of images: by parts of other images, or by nothing."""

from typing import Annotated, Literal

import numpy as np
import torch
from numpy.random import Generator
from pydantic import Field
from torch import Tensor

from evaluation.core.classes import UNLABELLED
from evaluation.core.errors import BadSpec
from evaluation.core.types import Array
from members.augmentations.augment import Augmentation, Pair, Probability, bernoulli_mask
from members.devices import send


def cut_mix(
    *, alpha: Annotated[float, Field(gt=0, le=1000)] = 1.0, probability: Probability = 0.5
) -> Augmentation:
    """Paste a rectangle of another image of the batch together with its labels.

    Pixels keep their own labels, so none are mixed as they are in image classification. A batch of
    one image stays unchanged.

    Args:
        alpha: the fraction of the image that is kept follows Beta(alpha, alpha), before the
            rectangle is clipped at the borders; 1 is uniform, less prefers the extremes.
        probability: fraction of the images that are changed.

    References:
        Yun et al., "CutMix: Regularization Strategy to Train Strong Classifiers with Localizable
        Features", 2019.

    Examples:
        >>> images = torch.tensor([1, 2]).byte().repeat_interleave(64).reshape(2, 1, 8, 8)
        >>> mixed, labels = cut_mix(probability=1.0)(images, images[:, 0], np.random.default_rng(0))
        >>> torch.equal(mixed[:, 0], labels)
        True
    """

    def augment(images: Tensor, masks: Tensor, rng: Generator) -> Pair:
        side = np.sqrt(1 - rng.beta(alpha, alpha, len(masks)))
        side *= rng.random(len(masks)) < probability
        heights, widths = (np.rint(side * length).astype(int) for length in masks.shape[1:])
        pasted = _rectangles(masks, heights, widths, rng)
        sources = send(torch.from_numpy(_other_indices(len(masks), rng)), masks.device)
        return (
            torch.where(pasted[:, None], images[sources], images),
            torch.where(pasted, masks[sources], masks),
        )

    return augment


def cut_out(
    *,
    count: Annotated[int, Field(ge=1, le=1000)] = 1,
    size: Annotated[float, Field(gt=0, le=1)] = 0.4,
    fill: Literal["zero", "mean"] = "zero",
    probability: Probability = 0.5,
) -> Augmentation:
    """Cover rectangles; pixels below them become unlabelled.

    Args:
        count: rectangles per image; they may overlap and are clipped at the borders.
        size: maximum height and width of each, as a fraction of the image's.
        fill: `zero` is black, `mean` the image's mean grey value.
        probability: fraction of the images that are changed.

    References:
        DeVries and Taylor, "Improved Regularization of Convolutional Neural Networks with Cutout",
        2017; squares of one size there.

    Examples:
        >>> images = torch.ones(1, 1, 8, 8).byte()
        >>> rng = np.random.default_rng(0)
        >>> covered, labels = cut_out(probability=1.0)(images, images[:, 0], rng)
        >>> torch.equal(covered[:, 0] == 0, labels == UNLABELLED)
        True
    """

    def augment(images: Tensor, masks: Tensor, rng: Generator) -> Pair:
        max_sizes = [max(1, round(size * length)) for length in masks.shape[1:]]
        covered = torch.zeros_like(masks, dtype=torch.bool)
        for _ in range(count):
            heights, widths = (rng.integers(1, limit + 1, size=len(masks)) for limit in max_sizes)
            covered |= _rectangles(masks, heights, widths, rng)
        covered &= bernoulli_mask(probability, images, rng)[:, None, None]
        grey = torch.zeros_like(images[:, :, :1, :1])
        if fill == "mean":
            grey = images.float().mean((2, 3), keepdim=True).round().to(images.dtype)
        return torch.where(covered[:, None], grey, images), masks.masked_fill(covered, UNLABELLED)

    return augment


def mask_dropout(
    *,
    label: Annotated[int, Field(ge=0, lt=UNLABELLED)] | None = None,
    probability: Probability = 0.5,
) -> Augmentation:
    """Erase one class: its pixels become black and unlabelled, so others cannot rely on it.

    The only class of an image is never erased.

    Args:
        label: index of the class to erase; by default a random one of each image's.
        probability: fraction of the images that lose a class.

    Raises:
        BadSpec: a fixed class would be erased from every image.

    Examples:
        >>> images = torch.tensor([[[[1, 2, 2]]]]).byte()
        >>> erase = mask_dropout(label=2, probability=0.99)
        >>> erase(images, images[:, 0], np.random.default_rng(0))[1]
        tensor([[[  1, 255, 255]]], dtype=torch.uint8)
    """
    if label is not None and probability == 1:
        raise BadSpec(f"would leave no image with class {label}; lower `probability`")

    def augment(images: Tensor, masks: Tensor, rng: Generator) -> Pair:
        present = torch.zeros(len(masks), UNLABELLED + 1, dtype=torch.bool, device=masks.device)
        present = present.scatter_(1, masks.flatten(1).long(), True)[:, :UNLABELLED]
        priorities = send(torch.from_numpy(rng.random((len(masks), UNLABELLED))), masks.device)
        erased = (priorities * present).argmax(dim=1)
        if label is not None:
            erased = torch.full_like(erased, label)
        chosen = bernoulli_mask(probability, images, rng) & (present.sum(dim=1) > 1)
        covered = (masks == erased[:, None, None]) & chosen[:, None, None]
        return images.masked_fill(covered[:, None], 0), masks.masked_fill(covered, UNLABELLED)

    return augment


def _other_indices(count: int, rng: Generator) -> Array:
    """Sample another index for each; a plain permutation would map some to themselves."""
    order = rng.permutation(count)
    other = np.empty_like(order)
    other[order] = np.roll(order, 1)
    return other


def _rectangles(masks: Tensor, heights: Array, widths: Array, rng: Generator) -> Tensor:
    """Sample a rectangle per mask, centred on any pixel and clipped at the borders.

    Args:
        masks: (image, row, col), for their shape and device.
        heights: in pixels, one per image.
        widths: in pixels, one per image.
        rng: samples the centres.

    Returns:
        True inside, (image, row, col).
    """
    rows, cols = masks.shape[1:]
    inside_rows = send(_intervals(rows, heights, rng), masks.device)
    inside_cols = send(_intervals(cols, widths, rng), masks.device)
    return inside_rows[:, :, None] & inside_cols[:, None, :]


def _intervals(length: int, sizes: Array, rng: Generator) -> Tensor:
    starts = (rng.integers(length, size=len(sizes)) - sizes // 2)[:, None]
    index = np.arange(length)
    return torch.from_numpy((index >= starts) & (index < starts + sizes[:, None]))
