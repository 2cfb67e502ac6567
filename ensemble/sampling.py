"""Pixels to learn from, drawn from a stream of blocks, about as many of each class.

Whole images to learn from, drawn from a stream of blocks.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Integer, Shaped

from ensemble.fusion import Blocks, TrainingBlock
from evaluation.core.classes import UNLABELLED
from evaluation.core.errors import BadData
from evaluation.core.types import Array, Labels

PerPixel = Float[np.ndarray, "pixel"]
PerLabel = Integer[np.ndarray, "label"]
PixelTarget = Integer[np.ndarray, "pixel"]
PerPixelMaps = Float[np.ndarray, "pixel member class"]
PerPixelFeatures = Float[np.ndarray, "pixel feature"]
Kept = tuple[PerPixel, PerPixelMaps, PerPixelFeatures]


@dataclass(frozen=True)
class PixelSample:
    """What the members said about some pixels, and what is true there.

    Args:
        maps: probabilities, float32.
        target: class index a pixel; no ignored pixel is among them.
        weight: how much each counts; they sum to 1.
        counts: how many pixels of each class there were to draw from.
        beside: what else was asked for about each pixel; no columns where nothing was.
    """

    maps: PerPixelMaps
    target: PixelTarget
    weight: PerPixel
    counts: PerLabel
    beside: PerPixelFeatures


Beside = Callable[[TrainingBlock], Float[np.ndarray, "image feature row col"]]
"""Gives features that a pixel's own maps do not hold."""


def sample(
    blocks: Blocks,
    *,
    classes: int,
    ignore: int | None,
    pixels: int,
    seed: int,
    balance: float = 0.0,
    beside: Beside | None = None,
) -> PixelSample:
    """Draw pixels of each scored class in one pass, without replacement and with flat memory.

    Each pixel gets a random key and those with the lowest keys of their class stay, so the sample
    does not depend on how the images were cut into blocks.

    Args:
        blocks: maps and target.
        classes: how many classes there are.
        ignore: the class whose pixels are left out, as those with target 255 are.
        pixels: how many to draw in all; the scored classes get equal quotas, and a class with
            fewer pixels than its quota gives all it has.
        seed: of the keys.
        balance: the weight of a class is its share of the pixels, to the power 1 - balance: 0
            weighs the sample back to the true shares, 1 weighs classes alike.
        beside: gives further features of a block's pixels.

    Raises:
        BadData: no pixel of a scored class.
    """
    generator = np.random.default_rng(seed)
    scored = [label for label in range(classes) if label != ignore]
    drawn = {label: _Lowest(max(1, -(-pixels // len(scored)))) for label in scored}
    for block in blocks:
        keys = generator.random(block.target.shape)
        more = None if beside is None else beside(block)
        for label, lowest in drawn.items():
            lowest.offer(block.maps, more, keys, block.target == label)
    counts = np.array([drawn[k].offered if k in drawn else 0 for k in range(classes)])
    if not counts.any():
        raise BadData("the target to fit on has no scored pixel; give images that have some")
    present = [label for label in scored if counts[label]]
    shares = (counts[present] / counts.sum()) ** (1 - balance)
    _, maps, features = zip(*[drawn[label].lowest() for label in present], strict=True)
    kept = np.array([len(part) for part in maps])
    return PixelSample(
        np.concatenate(maps),
        np.repeat(present, kept),
        np.repeat(shares / shares.sum() / kept, kept),
        counts,
        np.concatenate(features),
    )


class _Lowest:
    """The pixels with the lowest keys among those offered, and up to as many more."""

    def __init__(self, quota: int) -> None:
        self.quota = quota
        self.offered = 0
        self.limit = np.inf
        self.parts: list[Kept] = []
        self.held = 0

    def offer(
        self,
        maps: Shaped[np.ndarray, "member image class row col"],
        beside: Shaped[np.ndarray, "image feature row col"] | None,
        keys: Float[np.ndarray, "image row col"],
        among: Bool[np.ndarray, "image row col"],
    ) -> None:
        """Take what is not above the limit, which falls as more is offered."""
        self.offered += int(np.count_nonzero(among))
        taken = among & (keys <= self.limit)
        found = np.moveaxis(maps, (0, 2), (-2, -1))[taken]
        more = np.moveaxis(beside, 1, -1)[taken] if beside is not None else found[:, 0, :0]
        self.parts.append((keys[taken], found, more))
        self.held += len(found)
        if self.held > 2 * self.quota:
            self.lowest()

    def lowest(self) -> Kept:
        """Return no more than the quota, and let go of all others."""
        keys, maps, beside = (np.concatenate(part) for part in zip(*self.parts, strict=True))
        if len(keys) > self.quota:
            self.limit = np.partition(keys, self.quota - 1)[self.quota - 1]
            stay = keys <= self.limit
            keys, maps, beside = keys[stay], maps[stay], beside[stay]
        self.parts, self.held = [(keys, maps, beside)], len(keys)
        return self.parts[0]


Features = Float[np.ndarray, "image feature row col"]


@dataclass(frozen=True)
class ImageSample:
    """Features and target of some images.

    Args:
        features: what `features` gave, as float16, which is exact enough for logarithms.
        target: class index per pixel; 255 where it is not scored.
        counts: how many scored pixels of each class all images have.
    """

    features: Features
    target: Labels
    counts: PerLabel


def sample_images(
    blocks: Blocks,
    features: Callable[[TrainingBlock], Features],
    *,
    classes: int,
    ignore: int | None,
    pixels: int,
    seed: int,
) -> ImageSample:
    """Draw images that have scored pixels in one pass, without replacement, with flat memory.

    Each gets a random key and those with the lowest stay, so the sample does not depend on how the
    images were cut into blocks.

    Args:
        blocks: maps and target.
        features: of the images of a block.
        classes: how many classes there are.
        ignore: the class whose pixels are not scored.
        pixels: how many the drawn images have in all, about; at least one image is drawn.
        seed: of the keys.

    Raises:
        BadData: no pixel of a scored class.
    """
    generator = np.random.default_rng(seed)
    counts = np.zeros(classes, np.int64)
    held: list[Array] = []
    for block in blocks:
        target = np.where(block.target == ignore, UNLABELLED, block.target).astype(np.uint8)
        counts += np.bincount(target.ravel(), minlength=UNLABELLED + 1)[:classes]
        quota = max(1, pixels // target[0].size)
        known = (target != UNLABELLED).any(axis=(1, 2))
        keys = generator.random(len(target))
        limit = np.sort(held[0])[quota - 1] if held and len(held[0]) >= quota else np.inf
        known &= keys <= limit
        if known.any():
            found = features(_chosen(block, known)).astype(np.float16)
            fresh = [keys[known], found, target[known]]
            held = list(map(np.concatenate, zip(held, fresh, strict=True))) if held else fresh
            held = _lowest(held, quota)
    if not held:
        raise BadData("the target to fit on has no scored pixel; give images that have some")
    return ImageSample(held[1], held[2], counts)


def _chosen(block: TrainingBlock, chosen: Array) -> TrainingBlock:
    images = None if block.images is None else block.images[chosen]
    return TrainingBlock(block.maps[:, chosen], block.target[chosen], images)


def _lowest(held: list[Array], quota: int) -> list[Array]:
    if len(held[0]) <= quota:
        return held
    stay = held[0] <= np.partition(held[0], quota - 1)[quota - 1]
    return [part[stay] for part in held]
