"""Means over members: arithmetic, geometric, harmonic, of powers, and of log-odds."""

import math
from dataclasses import dataclass
from typing import Annotated

import numpy as np
from pydantic import Field

from ensemble.fusion import CLASS_AXIS, SMALLEST, AnyMembers, Floor, Fusion, PixelwiseFusion
from evaluation.core.types import Map, Maps

SMALLEST_PRODUCT = 1e-37
"""Products of probabilities stay above this, well inside float32."""

MAX_EXPONENT = 12
"""With 255 classes all probabilities raised to more than this could be 0 in float32."""

MIN_LOG_ODDS_GAP = 2.0**-24
"""Float32 does not tell a probability that is nearer to 1 from 1."""


def mean() -> Fusion:
    """Average the members' probabilities (linear opinion pool).

    Examples:
        >>> a, b = np.array([[1, 0], [0.5, 0.5]], np.float32)
        >>> mean()(np.stack([a, b])[:, None, :, None, None]).ravel()
        array([0.75, 0.25], dtype=float32)
    """
    return Mean()


@dataclass(frozen=True)
class Mean(PixelwiseFusion, AnyMembers):
    """The mean of the members' maps."""

    def _scores(self, maps: Maps) -> Map:
        return sum_members(maps)

    def from_sum(self, total: Map) -> None:
        """Divide by the sum over classes, which is the number of members but for rounding."""
        total /= total.sum(axis=CLASS_AXIS, keepdims=True)


def geometric_mean(*, floor: Floor = 1e-6) -> Fusion:
    """Average log-probabilities and renormalise (logarithmic opinion pool).

    A single member that is certain a class is absent vetoes it; `mean` does not.

    Args:
        floor: lower bound of probabilities, so that a single zero is not an absolute veto.

    References:
        Genest and Zidek, "Combining Probability Distributions", Statistical Science 1986.

    Examples:
        >>> a, b = np.array([[0.9, 0.1], [0.5, 0.5]], np.float32)
        >>> geometric_mean()(np.stack([a, b])[:, None, :, None, None]).ravel().round(2)
        array([0.75, 0.25], dtype=float32)
    """
    return GeometricMean(floor)


@dataclass(frozen=True)
class GeometricMean(PixelwiseFusion, AnyMembers):
    """The renormalised geometric mean of the members' maps."""

    floor: float

    def _scores(self, maps: Maps) -> Map:
        scores: Map = np.zeros(maps.shape[1:], np.float32)
        product, probability = np.empty((2, *scores.shape), np.float32)
        floor = _full(self.floor, scores)
        factors = factors_per_log(self.floor)
        for first in range(0, len(maps), factors):
            np.maximum(maps[first], floor, out=product)
            for one in maps[first + 1 : first + factors]:
                product *= np.maximum(one, floor, out=probability)
            scores += np.log(product, out=product)
        scores /= np.float32(len(maps))
        np.exp(scores, out=scores)
        return scores


def harmonic_mean(*, floor: Floor = 1e-6) -> Fusion:
    """Average reciprocals of probabilities, take the reciprocal and renormalise.

    A low probability counts even more than in the geometric mean: the lowest one for a class
    outweighs all others.

    Args:
        floor: lower bound of probabilities, so that a single zero is not an absolute veto.

    Examples:
        >>> a, b = np.array([[0.9, 0.1], [0.5, 0.5]], np.float32)
        >>> harmonic_mean()(np.stack([a, b])[:, None, :, None, None]).ravel().round(2)
        array([0.79, 0.21], dtype=float32)
    """
    return HarmonicMean(floor)


@dataclass(frozen=True)
class HarmonicMean(PixelwiseFusion, AnyMembers):
    """The renormalised harmonic mean of the members' maps."""

    floor: float

    def _scores(self, maps: Maps) -> Map:
        scores: Map = np.zeros(maps.shape[1:], np.float32)
        buffer, floor = np.empty_like(scores), _full(self.floor, scores)
        for one in maps:
            scores += np.reciprocal(np.maximum(one, floor, out=buffer), out=buffer)
        np.reciprocal(scores, out=scores)
        return scores


def power_mean(*, exponent: Annotated[int, Field(ge=1, le=MAX_EXPONENT)] = 2) -> Fusion:
    """Average powers of probabilities and renormalise: confident members count for more.

    The root that would make it a generalised mean is left out. It changes no pixel's order of the
    classes, and without it the fused map is sharper than the members', which averaging blurs. With
    exponent 1 it is `mean`. The generalised means for exponents 0 and -1 are `geometric_mean` and
    `harmonic_mean`.

    Args:
        exponent: of the probabilities; whole, so that it takes a few products per value.

    Examples:
        >>> a, b = np.array([[0.9, 0.1], [0.5, 0.5]], np.float32)
        >>> power_mean(exponent=2)(np.stack([a, b])[:, None, :, None, None]).ravel().round(2)
        array([0.8, 0.2], dtype=float32)
    """
    return PowerMean(exponent)


@dataclass(frozen=True)
class PowerMean(PixelwiseFusion, AnyMembers):
    """The renormalised mean of powers of the members' maps."""

    exponent: int

    def _scores(self, maps: Maps) -> Map:
        scores: Map = np.zeros(maps.shape[1:], np.float32)
        power = np.empty_like(scores)
        for one in maps:
            np.copyto(power, one)
            for bit in f"{self.exponent:b}"[1:]:
                np.square(power, out=power)
                if bit == "1":
                    power *= one
            scores += power
        return scores


def log_odds(*, floor: Annotated[float, Field(ge=SMALLEST, lt=0.5)] = 1e-6) -> Fusion:
    """Average log(p / (1 - p)) per class, convert it back to probabilities and renormalise.

    Each class is a yes-or-no question of its own: one confident "no" vetoes a class as in
    `geometric_mean`, and one confident "yes" carries it as well.

    Args:
        floor: probabilities are clipped to `floor` and 1 - `floor`, so that no member is certain.

    Examples:
        >>> a, b = np.array([[0.9, 0.1], [0.5, 0.5]], np.float32)
        >>> log_odds()(np.stack([a, b])[:, None, :, None, None]).ravel().round(2)
        array([0.75, 0.25], dtype=float32)
    """
    return LogOdds(floor)


@dataclass(frozen=True)
class LogOdds(PixelwiseFusion, AnyMembers):
    """The renormalised probabilities of the members' mean log-odds."""

    floor: float

    def _scores(self, maps: Maps) -> Map:
        floor = max(self.floor, MIN_LOG_ODDS_GAP)
        factors = factors_per_log(floor)
        odds: Map = np.zeros(maps.shape[1:], np.float32)
        yes, no, probability = np.empty((3, *odds.shape), np.float32)
        for first in range(0, len(maps), factors):
            yes[...] = no[...] = 1
            for one in maps[first : first + factors]:
                yes *= np.clip(one, floor, 1 - floor, out=probability)
                no *= np.subtract(1, probability, out=probability)
            odds += np.log(np.divide(yes, no, out=yes), out=yes)
        odds /= np.float32(len(maps))
        np.exp(odds, out=odds)
        odds /= 1 + odds
        return odds


def sum_members(maps: Maps) -> Map:
    """Return the sum over members, added up in one buffer."""
    if len(maps) == 1:
        only: Map = maps[0].astype(np.float32)
        return only
    scores: Map = np.add(maps[0], maps[1], dtype=np.float32)
    for one in maps[2:]:
        scores += one
    return scores


def fallback_to_mean(scores: Map, maps: Maps) -> Map:
    """Return the scores, and the sum over members where no class has a score."""
    empty = scores.max(axis=CLASS_AXIS, keepdims=True) < SMALLEST
    if np.any(empty):
        np.copyto(scores, sum_members(maps), where=empty)
    return scores


def factors_per_log(floor: float) -> int:
    """Return how many probabilities of at least `floor` may be multiplied in float32.

    A logarithm costs as much as three products, so one is taken of as many as possible.
    """
    return max(1, int(math.log(SMALLEST_PRODUCT) / math.log(floor)))


def _full(floor: float, scores: Map) -> Map:
    # NumPy takes the maximum with an array three times as fast as with a number.
    return np.full_like(scores, floor)
