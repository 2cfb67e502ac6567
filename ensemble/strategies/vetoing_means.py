"""Means over members in which one confident "no" outweighs the others: geometric, harmonic."""

import math
from dataclasses import dataclass
from typing import Annotated

import numpy as np
from pydantic import Field

from ensemble.fusion import SMALLEST, Fusion, by_pieces
from evaluation.ground.arrays import Map, Maps

SMALLEST_PRODUCT = 1e-37
"""Products of probabilities stay above this, well inside float32."""


def geometric_mean(*, floor: Annotated[float, Field(ge=SMALLEST, lt=1)] = 1e-6) -> Fusion:
    """Average log-probabilities and renormalise (a logarithmic opinion pool).

    One confident "no" vetoes a class, which `mean` forgives.

    Args:
        floor: probabilities below this are raised to it, so that a single zero is no veto for ever.
    """
    return GeometricMean(floor)


def harmonic_mean(*, floor: Annotated[float, Field(ge=SMALLEST, lt=1)] = 1e-6) -> Fusion:
    """Average reciprocals of probabilities, take the reciprocal and renormalise.

    One "no" weighs more still than in the geometric mean: the least probable say about a class
    outweighs all others.

    Args:
        floor: probabilities below this are raised to it, so that a single zero is no veto for ever.
    """
    return HarmonicMean(floor)


@dataclass(frozen=True)
class GeometricMean:
    """The renormalised geometric mean of the members' maps."""

    floor: float

    def __call__(self, maps: Maps) -> Map:
        """Fuse."""
        return by_pieces(maps, self._scores)

    def _scores(self, maps: Maps) -> Map:
        scores: Map = np.zeros(maps.shape[1:], np.float32)
        product, probability = np.empty((2, *scores.shape), np.float32)
        floor = _everywhere(self.floor, scores)
        at_once = factors_at_once(self.floor)
        for first in range(0, len(maps), at_once):
            np.maximum(maps[first], floor, out=product)
            for one in maps[first + 1 : first + at_once]:
                product *= np.maximum(one, floor, out=probability)
            scores += np.log(product, out=product)
        scores /= np.float32(len(maps))
        np.exp(scores, out=scores)
        return scores


@dataclass(frozen=True)
class HarmonicMean:
    """The renormalised harmonic mean of the members' maps."""

    floor: float

    def __call__(self, maps: Maps) -> Map:
        """Fuse."""
        return by_pieces(maps, self._scores)

    def _scores(self, maps: Maps) -> Map:
        scores: Map = np.zeros(maps.shape[1:], np.float32)
        buffer, floor = np.empty_like(scores), _everywhere(self.floor, scores)
        for one in maps:
            scores += np.reciprocal(np.maximum(one, floor, out=buffer), out=buffer)
        np.reciprocal(scores, out=scores)
        return scores


def factors_at_once(floor: float) -> int:
    """Return how many probabilities of at least this may be multiplied in float32.

    A logarithm costs as much as three products, so one is taken of as many as possible.
    """
    return max(1, int(math.log(SMALLEST_PRODUCT) / math.log(floor)))


def _everywhere(floor: float, scores: Map) -> Map:
    # NumPy takes the maximum with an array thrice as fast as with a number.
    return np.full_like(scores, floor)
