"""The arithmetic mean over members."""

from dataclasses import dataclass

import numpy as np

from ensemble.fusion import CLASS_AXIS, SMALLEST, Fusion, by_pieces
from evaluation.ground.arrays import Map, Maps


def mean() -> Fusion:
    """Average the members' probabilities (a linear opinion pool)."""
    return Mean()


@dataclass(frozen=True)
class Mean:
    """The mean of the members' maps."""

    def __call__(self, maps: Maps) -> Map:
        """Fuse."""
        return by_pieces(maps, total)

    def of_sum(self, total: Map) -> None:
        """Divide by the sum over classes, which is the number of members but for rounding."""
        total /= total.sum(axis=CLASS_AXIS, keepdims=True)


def total(maps: Maps) -> Map:
    """Return the sum over members, added up in one buffer."""
    if len(maps) == 1:
        only: Map = maps[0].astype(np.float32)
        return only
    scores: Map = np.add(maps[0], maps[1], dtype=np.float32)
    for one in maps[2:]:
        scores += one
    return scores


def or_mean(scores: Map, maps: Maps) -> Map:
    """Return the scores, and the sum over members where no class has a score."""
    nothing = scores.max(axis=CLASS_AXIS, keepdims=True) < SMALLEST
    if np.any(nothing):
        np.copyto(scores, total(maps), where=nothing)
    return scores
