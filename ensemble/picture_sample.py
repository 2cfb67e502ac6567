"""Whole pictures to learn from, drawn from a stream of blocks."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Integer

from ensemble.fusion import Block, Blocks
from evaluation.ground.arrays import Array, Labels
from evaluation.ground.classes import UNLABELLED
from evaluation.ground.errors import BadData

Features = Float[np.ndarray, "picture feature row col"]
PerLabel = Integer[np.ndarray, "label"]


@dataclass(frozen=True)
class PictureSample:
    """Features and truth of some pictures.

    Args:
        features: what `features` gave, as float16, which is exact enough for logarithms.
        truth: class index per pixel; 255 where it is not scored.
        counts: how many scored pixels of each class all pictures have.
    """

    features: Features
    truth: Labels
    counts: PerLabel


def sample_pictures(
    blocks: Blocks,
    features: Callable[[Block], Features],
    *,
    classes: int,
    ignore: int | None,
    pixels: int,
    seed: int,
) -> PictureSample:
    """Draw pictures that have scored pixels in one pass, without replacement, with flat memory.

    Each gets a random key and those with the lowest stay, so the sample does not depend on how the
    pictures were cut into blocks.

    Args:
        blocks: maps and truth.
        features: of the pictures of a block.
        classes: how many classes there are.
        ignore: the class whose pixels are not scored.
        pixels: how many the drawn pictures have in all, about; at least one picture is drawn.
        seed: of the keys.

    Raises:
        BadData: no pixel of a scored class.
    """
    generator = np.random.default_rng(seed)
    counts = np.zeros(classes, np.int64)
    held: list[Array] = []
    for block in blocks:
        truth = np.where(block.truth == ignore, UNLABELLED, block.truth).astype(np.uint8)
        counts += np.bincount(truth.ravel(), minlength=UNLABELLED + 1)[:classes]
        quota = max(1, pixels // truth[0].size)
        known = (truth != UNLABELLED).any(axis=(1, 2))
        keys = generator.random(len(truth))
        limit = np.sort(held[0])[quota - 1] if held and len(held[0]) >= quota else np.inf
        known &= keys <= limit
        if known.any():
            found = features(_chosen(block, known)).astype(np.float16)
            fresh = [keys[known], found, truth[known]]
            held = list(map(np.concatenate, zip(held, fresh, strict=True))) if held else fresh
            held = _lowest(held, quota)
    if not held:
        raise BadData("the truth to fit on has no scored pixel; give pictures that have some")
    return PictureSample(held[1], held[2], counts)


def _chosen(block: Block, chosen: Array) -> Block:
    pictures = None if block.pictures is None else block.pictures[chosen]
    return Block(block.maps[:, chosen], block.truth[chosen], pictures)


def _lowest(held: list[Array], quota: int) -> list[Array]:
    if len(held[0]) <= quota:
        return held
    stay = held[0] <= np.partition(held[0], quota - 1)[quota - 1]
    return [part[stay] for part in held]
