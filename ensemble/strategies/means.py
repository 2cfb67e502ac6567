"""The arithmetic mean over members.

Means over members in which one confident "no" outweighs the others: geometric, harmonic.

The mean of sharpened probabilities.

The mean of the members' log-odds.
"""

import math
from dataclasses import dataclass
from typing import Annotated

import numpy as np
from pydantic import Field

from ensemble.fusion import (
    CLASS_AXIS,
    SMALLEST,
    Fusion,
    by_pieces,
)
from evaluation.core.types import Map, Maps


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


MAX_EXPONENT = 12
"""With 255 classes the probabilities raised to more than this might all be 0 in float32."""


def power_mean(*, exponent: Annotated[int, Field(ge=1, le=MAX_EXPONENT)] = 2) -> Fusion:
    """Average probabilities raised to a power, and renormalise: who is sure counts for more.

    The root that would make it a generalised mean is left out. It changes no pixel's order of the
    classes, and without it the fused map is sharper than the members', as theirs is blunted by
    averaging. With exponent 1 it is `mean`. Of the generalised means with exponents below 1, those
    for 0 and -1 are `geometric_mean` and `harmonic_mean`.

    Args:
        exponent: of the probabilities; whole, for then it takes a few products a value.
    """
    return PowerMean(exponent)


@dataclass(frozen=True)
class PowerMean:
    """The renormalised mean of the members' maps to a power."""

    exponent: int

    def __call__(self, maps: Maps) -> Map:
        """Fuse."""
        return by_pieces(maps, self._scores)

    def _scores(self, maps: Maps) -> Map:
        scores: Map = np.zeros(maps.shape[1:], np.float32)
        raised = np.empty_like(scores)
        for one in maps:
            np.copyto(raised, one)
            for bit in f"{self.exponent:b}"[1:]:
                np.square(raised, out=raised)
                if bit == "1":
                    raised *= one
            scores += raised
        return scores


NEAREST = 2.0**-24
"""Float32 tells no probability apart from 1 that is nearer to it."""


def log_odds(*, floor: Annotated[float, Field(ge=SMALLEST, lt=0.5)] = 1e-6) -> Fusion:
    """Average log(p / (1 - p)) class by class, turn it back into probabilities and renormalise.

    It takes each class for a question of its own, yes or no. One confident "no" vetoes a class as
    in `geometric_mean`, and one confident "yes" carries it as well.

    Args:
        floor: probabilities below this are raised to it, and those above 1 - `floor` lowered to
            that, so that nobody is certain.
    """
    return LogOdds(floor)


@dataclass(frozen=True)
class LogOdds:
    """The probabilities with the mean log-odds of the members', renormalised."""

    floor: float

    def __call__(self, maps: Maps) -> Map:
        """Fuse."""
        return by_pieces(maps, self._scores)

    def _scores(self, maps: Maps) -> Map:
        floor = max(self.floor, NEAREST)
        at_once = factors_at_once(floor)
        odds: Map = np.zeros(maps.shape[1:], np.float32)
        yes, no, probability = np.empty((3, *odds.shape), np.float32)
        for first in range(0, len(maps), at_once):
            yes[...] = no[...] = 1
            for one in maps[first : first + at_once]:
                yes *= np.clip(one, floor, 1 - floor, out=probability)
                no *= np.subtract(1, probability, out=probability)
            odds += np.log(np.divide(yes, no, out=yes), out=yes)
        odds /= np.float32(len(maps))
        np.exp(odds, out=odds)
        odds /= 1 + odds
        return odds
