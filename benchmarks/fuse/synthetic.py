"""How much is measured on, and maps for it."""

from dataclasses import dataclass

import numpy as np

from evaluation.core.types import Map, Maps

CLASSES, ROWS, COLS = 5, 64, 128
COARSE_PX = 8


@dataclass(frozen=True)
class Size:
    """How much is measured, how often.

    Args:
        members: how many are fused.
        images: maps of each, 5 x 64 x 128; the part `peak` takes ten times as many, too.
        pixels: that stacking learns from, each with a feature for each member and class.
        rounds: how often each side is timed.
    """

    members: int
    images: int
    pixels: int
    rounds: int


def drawn(rng: np.random.Generator, images: int) -> Map:
    """Draw maps of one member: smooth, as networks give them."""
    coarse = rng.normal(0, 3, (images, CLASSES, ROWS // COARSE_PX, COLS // COARSE_PX))
    scores = coarse.astype(np.float32).repeat(COARSE_PX, axis=2).repeat(COARSE_PX, axis=3)
    scores += rng.normal(0, 0.2, scores.shape).astype(np.float32)
    np.exp(scores, out=scores)
    maps: Map = scores / scores.sum(axis=1, keepdims=True)
    return maps


def drawn_members(members: int, images: int) -> Maps:
    """Draw maps of all members, in memory."""
    rng = np.random.default_rng(0)
    return np.stack([drawn(rng, images) for _ in range(members)])
