"""Samples to fit on, drawn from a stream of blocks: pixels per class, or whole images.

Every pixel or image gets a random key, and those with the lowest keys are kept. So a sample does
not depend on how the images were cut into blocks, and memory does not grow with their number.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Annotated

import numpy as np
from jaxtyping import Bool, Float, Integer
from pydantic import Field

from ensemble.fusion import Blocks, ScoredLabels, TrainingBlock, check_any_scored
from evaluation.core.classes import UNLABELLED
from evaluation.core.errors import BadData
from evaluation.core.ragged import Size
from evaluation.core.types import Array, Labels

SamplePixels = Annotated[int, Field(ge=1, le=2**31 - 1)]
"""An option: how many pixels to fit on, about as many of each class, weighted back to the true
shares."""

Balance = Annotated[float, Field(ge=0, le=1)]
"""An option: 0 weighs classes as often as they occur, 1 equally."""

PerPixel = Float[np.ndarray, "pixel"]
PerLabel = Integer[np.ndarray, "label"]
PixelTarget = Integer[np.ndarray, "pixel"]
Rows = Integer[np.ndarray, "row"]
PerImage = Integer[np.ndarray, "image"]
PerPixelMaps = Float[np.ndarray, "pixel member class"]
PerPixelFeatures = Float[np.ndarray, "pixel feature"]
Features = Float[np.ndarray, "image feature row col"]


@dataclass(frozen=True)
class PixelSample:
    """Maps and target of some scored pixels.

    Args:
        maps: probabilities, float32.
        target: class index per pixel.
        weight: weight of each pixel; they sum to 1.
        counts: number of pixels of each class that could be drawn.
        extra_features: further features per pixel; no columns where none were requested.
        group: index of the group of each pixel's image, or of the image where groups are unknown.
        fold: whose networks predicted each pixel; None where unknown.
    """

    maps: PerPixelMaps
    target: PixelTarget
    weight: PerPixel
    counts: PerLabel
    extra_features: PerPixelFeatures
    group: PixelTarget | None = None
    fold: PixelTarget | None = None


def draw_pixels(
    blocks: Blocks,
    *,
    classes: int,
    ignore: int | None,
    pixels: int,
    seed: int,
    balance: float = 0.0,
    extra_features: Callable[[TrainingBlock], Features] | None = None,
) -> PixelSample:
    """Draw about as many pixels of each scored class, in one pass and without replacement.

    Args:
        ignore: the class whose pixels are left out, as unlabelled ones are.
        pixels: total number to draw; the scored classes get equal quotas, and a class with fewer
            pixels than its quota gives all it has.
        balance: the weight of a class is its share of the pixels, to the power 1 - balance: 0
            restores the true shares, 1 weighs classes equally.
        extra_features: computes further features of a block's pixels.

    Raises:
        BadData: no pixel of a scored class.
    """
    generator = np.random.default_rng(seed)
    scored = [label for label in range(classes) if label != ignore]
    quota = max(1, -(-pixels // len(scored)))
    samples = {label: _BottomK(quota, max_held=2 * quota) for label in scored}
    offered = np.zeros(classes, np.int64)
    group_of = _group_of(blocks)
    for image, block in _numbered(blocks):
        keys = generator.random(block.target.shape)
        images = np.broadcast_to(image[:, None, None], keys.shape)
        features = None if extra_features is None else extra_features(block)
        for label, sample in samples.items():
            of_label = block.target == label
            offered[label] += np.count_nonzero(of_label)
            chosen = of_label & sample.accepts(keys)
            maps = np.moveaxis(block.maps, (0, 2), (-2, -1))[chosen]
            extra = maps[:, 0, :0] if features is None else np.moveaxis(features, 1, -1)[chosen]
            sample.add(keys[chosen], maps, extra, images[chosen])
    check_any_scored(offered.any())
    present = [label for label in scored if offered[label]]
    shares = (offered[present] / offered.sum()) ** (1 - balance)
    _, all_maps, all_extra, all_images = zip(
        *[samples[label].lowest() for label in present], strict=True
    )
    drawn, image_of = np.array([len(part) for part in all_maps]), np.concatenate(all_images)
    return PixelSample(
        np.concatenate(all_maps),
        np.repeat(present, drawn),
        np.repeat(shares / shares.sum() / drawn, drawn),
        offered,
        np.concatenate(all_extra),
        group_of(image_of),
        _fold_of(blocks, image_of),
    )


def check_all_scored_occur(counts: PerLabel, ignore: int | None, strategy: str) -> ScoredLabels:
    """Return the labels of the scored classes.

    Raises:
        BadData: one of them has no pixel to fit on.
    """
    scored = [label for label in range(len(counts)) if label != ignore]
    missing = [label for label in scored if not counts[label]]
    if missing:
        raise BadData(
            f"target to fit on has no pixel of class {missing[0]}; {strategy} needs some of every"
            " scored class: add images, or choose another strategy"
        )
    return np.array(scored)


def thin(sample: PixelSample, pixels: int) -> PixelSample:
    """Leave every k-th pixel of each class that has more than its share; weights are restored.

    Args:
        pixels: see `thinned_rows`.
    """
    rows = thinned_rows(sample.target, pixels)
    before, after = (
        np.bincount(target, minlength=len(sample.counts))
        for target in (sample.target, sample.target[rows])
    )
    factor = (before / np.maximum(after, 1))[sample.target[rows]]
    return replace(take(sample, rows), weight=sample.weight[rows] * factor)


def thinned_rows(target: PixelTarget, pixels: int) -> Rows:
    """Return the indices of about equally many pixels of each class, evenly spaced.

    Args:
        pixels: total number to take at most.
    """
    present, drawn = np.unique(target, return_counts=True)
    steps = np.maximum(1, -(-drawn * len(present) // pixels))
    return np.concatenate(
        [np.flatnonzero(target == label)[::k] for label, k in zip(present, steps, strict=True)]
    )


def take(sample: PixelSample, rows: Rows) -> PixelSample:
    """Return some of the pixels; their weights sum to 1 again."""
    if len(rows) == len(sample.target):
        return sample
    weight = sample.weight[rows]
    return PixelSample(
        sample.maps[rows],
        sample.target[rows],
        weight / weight.sum(),
        sample.counts,
        sample.extra_features[rows],
        None if sample.group is None else sample.group[rows],
        None if sample.fold is None else sample.fold[rows],
    )


@dataclass(frozen=True)
class ImageSample:
    """Features and target of some images.

    Args:
        features: float16, which is exact enough for logarithms.
        target: class index per pixel; 255 where it is not scored.
        counts: number of scored pixels of each class in all images.
        group: index of each image's group, or of the image where groups are unknown.
        fold: whose networks predicted each image; None where unknown.
    """

    features: Features
    target: Labels
    counts: PerLabel
    group: PerImage | None = None
    fold: PerImage | None = None


def draw_images(
    blocks: Blocks,
    features: Callable[[TrainingBlock], Features],
    *,
    classes: int,
    ignore: int | None,
    pixels: int,
    seed: int,
) -> ImageSample:
    """Draw images that have scored pixels, in one pass and without replacement.

    Of images of several sizes, a part is drawn that is as high as the lowest and as wide as the
    narrowest of them, around a scored pixel.

    Args:
        features: computes the features of the images of a block.
        ignore: the class whose pixels are not scored.
        pixels: approximate number of pixels of the drawn images; at least one image is drawn.

    Raises:
        BadData: no pixel of a scored class.
    """
    generator = np.random.default_rng(seed)
    counts = np.zeros(classes, np.int64)
    crop = _smallest_sides(blocks)
    quota = max(1, pixels // math.prod(crop))
    sample = _BottomK(quota, max_held=quota)
    for image, block in _numbered(blocks):
        target = np.where(block.target == ignore, UNLABELLED, block.target).astype(np.uint8)
        counts += np.bincount(target.ravel(), minlength=UNLABELLED + 1)[:classes]
        keys = generator.random(len(target))
        chosen = (target != UNLABELLED).any(axis=(1, 2)) & sample.accepts(keys)
        if chosen.any():
            images = None if block.images is None else block.images[chosen]
            part = TrainingBlock(block.maps[:, chosen], block.target[chosen], images)
            rows = [features(part).astype(np.float16), target[chosen]]
            if target.shape[1:] != crop:
                rows = _crop(rows, target[chosen], crop, generator)
            sample.add(keys[chosen], *rows, image[chosen])
    check_any_scored(sample.held)
    _, drawn, labels, image_of = sample.lowest()
    return ImageSample(
        drawn, labels, counts, _group_of(blocks)(image_of), _fold_of(blocks, image_of)
    )


def _numbered(blocks: Blocks) -> Iterator[tuple[PerLabel, TrainingBlock]]:
    """Yield the numbers of the images of each block with the block."""
    first = 0
    for block in blocks:
        yield np.arange(first, first + len(block.target)), block
        first += len(block.target)


def _group_of(blocks: Blocks) -> Callable[[PerLabel], PixelTarget]:
    """Return what tells the indices of images' groups; without groups each image is its own."""
    groups = getattr(blocks, "groups", None)
    if groups is None:
        return lambda images: images
    index = np.unique(groups, return_inverse=True)[1]
    return lambda images: index[images]


def _fold_of(blocks: Blocks, images: PerLabel) -> PixelTarget | None:
    """Return the folds of images, by their numbers; None where they are unknown."""
    folds = getattr(blocks, "folds", None)
    return None if folds is None else folds[images]


def _smallest_sides(blocks: Blocks) -> Size:
    """Return the fewest rows and the fewest columns of all images."""
    extent = getattr(blocks, "extent", None)
    sizes = extent.sizes if extent else [block.target.shape[1:] for block in blocks]
    return min(rows for rows, _ in sizes), min(cols for _, cols in sizes)


def _crop(
    arrays: Sequence[Array], target: Labels, size: Size, generator: np.random.Generator
) -> list[Array]:
    """Cut every image to a size, around one of its scored pixels."""
    parts = []
    for image, labels in enumerate(target):
        row, col = generator.choice(np.argwhere(labels != UNLABELLED))
        top, left = (
            int(np.clip(centre - side // 2, 0, length - side))
            for centre, side, length in zip((row, col), size, labels.shape, strict=True)
        )
        window = np.s_[..., top : top + size[0], left : left + size[1]]
        parts.append([array[image][window] for array in arrays])
    return [np.stack(array) for array in zip(*parts, strict=True)]


class _BottomK:
    """Rows of arrays with the lowest keys among those added.

    Args:
        quota: number of rows to return.
        max_held: number of rows in memory beyond which those above the quota are dropped.
    """

    def __init__(self, quota: int, *, max_held: int) -> None:
        self.quota, self.max_held = quota, max_held
        self.limit, self.held = np.inf, 0
        self.parts: list[tuple[Array, ...]] = []

    def accepts(self, keys: Float[np.ndarray, "..."]) -> Bool[np.ndarray, "..."]:
        """Mark the keys that may be among the lowest."""
        accepted: Bool[np.ndarray, ...] = keys <= self.limit
        return accepted

    def add(self, keys: Float[np.ndarray, " row"], *values: Array) -> None:
        """Add rows; the limit falls as more are added."""
        self.parts.append((keys, *values))
        self.held += len(keys)
        if self.held > self.max_held:
            self.lowest()

    def lowest(self) -> tuple[Array, ...]:
        """Return no more rows than the quota, keys first, and drop all others."""
        keys, *values = (np.concatenate(part) for part in zip(*self.parts, strict=True))
        if len(keys) > self.quota:
            self.limit = np.partition(keys, self.quota - 1)[self.quota - 1]
            lowest = keys <= self.limit
            keys, *values = (part[lowest] for part in (keys, *values))
        self.parts, self.held = [(keys, *values)], len(keys)
        return self.parts[0]
