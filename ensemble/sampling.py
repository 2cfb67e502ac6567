"""Samples to fit on, drawn from a stream of blocks: pixels per class, or whole images.

Every pixel or image gets a random key, and those with the lowest keys are kept. So a sample does
not depend on how the images were cut into blocks, and memory does not grow with their number.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated

import numpy as np
from jaxtyping import Bool, Float, Integer
from pydantic import Field

from ensemble.fusion import Blocks, TrainingBlock, check_any_scored
from evaluation.core.classes import UNLABELLED
from evaluation.core.types import Array, Labels

SamplePixels = Annotated[int, Field(ge=1, le=2**31 - 1)]
"""An option: how many pixels to fit on, about as many of each class, weighted back to the true
shares."""

Balance = Annotated[float, Field(ge=0, le=1)]
"""An option: 0 weighs classes as often as they occur, 1 equally."""

PerPixel = Float[np.ndarray, "pixel"]
PerLabel = Integer[np.ndarray, "label"]
PixelTarget = Integer[np.ndarray, "pixel"]
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
    """

    maps: PerPixelMaps
    target: PixelTarget
    weight: PerPixel
    counts: PerLabel
    extra_features: PerPixelFeatures


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
    for block in blocks:
        keys = generator.random(block.target.shape)
        features = None if extra_features is None else extra_features(block)
        for label, sample in samples.items():
            of_label = block.target == label
            offered[label] += np.count_nonzero(of_label)
            chosen = of_label & sample.accepts(keys)
            maps = np.moveaxis(block.maps, (0, 2), (-2, -1))[chosen]
            extra = maps[:, 0, :0] if features is None else np.moveaxis(features, 1, -1)[chosen]
            sample.add(keys[chosen], maps, extra)
    check_any_scored(offered.any())
    present = [label for label in scored if offered[label]]
    shares = (offered[present] / offered.sum()) ** (1 - balance)
    _, all_maps, all_extra = zip(*[samples[label].lowest() for label in present], strict=True)
    drawn = np.array([len(part) for part in all_maps])
    return PixelSample(
        np.concatenate(all_maps),
        np.repeat(present, drawn),
        np.repeat(shares / shares.sum() / drawn, drawn),
        offered,
        np.concatenate(all_extra),
    )


@dataclass(frozen=True)
class ImageSample:
    """Features and target of some images.

    Args:
        features: float16, which is exact enough for logarithms.
        target: class index per pixel; 255 where it is not scored.
        counts: number of scored pixels of each class in all images.
    """

    features: Features
    target: Labels
    counts: PerLabel


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

    Args:
        features: computes the features of the images of a block.
        ignore: the class whose pixels are not scored.
        pixels: approximate number of pixels of the drawn images; at least one image is drawn.

    Raises:
        BadData: no pixel of a scored class.
    """
    generator = np.random.default_rng(seed)
    counts = np.zeros(classes, np.int64)
    sample: _BottomK | None = None
    for block in blocks:
        target = np.where(block.target == ignore, UNLABELLED, block.target).astype(np.uint8)
        counts += np.bincount(target.ravel(), minlength=UNLABELLED + 1)[:classes]
        quota = max(1, pixels // target[0].size)
        sample = sample or _BottomK(quota, max_held=quota)
        keys = generator.random(len(target))
        chosen = (target != UNLABELLED).any(axis=(1, 2)) & sample.accepts(keys)
        if chosen.any():
            images = None if block.images is None else block.images[chosen]
            part = TrainingBlock(block.maps[:, chosen], block.target[chosen], images)
            sample.add(keys[chosen], features(part).astype(np.float16), target[chosen])
    check_any_scored(sample and sample.held)
    assert sample is not None
    _, drawn, labels = sample.lowest()
    return ImageSample(drawn, labels, counts)


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
