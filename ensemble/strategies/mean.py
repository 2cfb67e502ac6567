"""The arithmetic mean over members."""

from collections.abc import Iterable
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

    def one_by_one(self, maps: Iterable[Map], out: Map) -> None:
        """Fuse the maps of the members as they come, few pictures at a time."""
        scores = total(maps, out)
        scores /= scores.sum(axis=CLASS_AXIS, keepdims=True)


def total(maps: Maps | Iterable[Map], out: Map | None = None) -> Map:
    """Return the sum over members, added up in one buffer.

    Args:
        maps: one a member; each but the first may be gone when the next comes.
        out: the buffer, in which the first map may lie already; a new one where it is None.
    """
    members = iter(maps)
    first = next(members)
    scores: Map = np.empty(first.shape, np.float32) if out is None else out
    second = next(members, None)
    if second is None:
        np.copyto(scores, first)
        return scores
    np.add(first, second, out=scores)
    for one in members:
        scores += one
    return scores


def or_mean(scores: Map, maps: Maps) -> Map:
    """Return the scores, and the sum over members where no class has a score."""
    nothing = scores.max(axis=CLASS_AXIS, keepdims=True) < SMALLEST
    if np.any(nothing):
        np.copyto(scores, total(maps), where=nothing)
    return scores
