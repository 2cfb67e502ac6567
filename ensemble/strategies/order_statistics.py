"""The minimum, median or maximum of the members' probabilities."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np

from ensemble.fusion import AnyMembers, Fusion, PixelwiseFusion
from ensemble.strategies.means import fallback_to_mean
from evaluation.core.types import Map, Maps


def maximum() -> Fusion:
    """Take the highest probability of each class over the members, and renormalise.

    Examples:
        >>> a, b = np.array([[0.9, 0.1], [0.5, 0.5]], np.float32)
        >>> maximum()(np.stack([a, b])[:, None, :, None, None]).ravel().round(2)
        array([0.64, 0.36], dtype=float32)
    """
    return OrderStatistic("max")


def minimum() -> Fusion:
    """Take the lowest probability of each class over the members, and renormalise.

    Where the lowest is 0 for every class, the mean decides.

    Examples:
        >>> a, b = np.array([[0.9, 0.1], [0.5, 0.5]], np.float32)
        >>> minimum()(np.stack([a, b])[:, None, :, None, None]).ravel().round(2)
        array([0.83, 0.17], dtype=float32)
    """
    return OrderStatistic("min")


def median() -> Fusion:
    """Take the median probability of each class over the members, and renormalise.

    A minority of outliers has no effect, however extreme. Where the median is 0 for every class,
    the mean decides.

    Examples:
        >>> a, b, c = np.array([[0.9, 0.1], [0.6, 0.4], [0, 1]], np.float32)
        >>> median()(np.stack([a, b, c])[:, None, :, None, None]).ravel().round(2)
        array([0.6, 0.4], dtype=float32)
    """
    return OrderStatistic("median")


@dataclass(frozen=True)
class OrderStatistic(PixelwiseFusion, AnyMembers):
    """The renormalised minimum, median or maximum of the members' maps."""

    which: Literal["min", "median", "max"]

    def _scores(self, maps: Maps) -> Map:
        if self.which == "median":
            scores = _median(maps)
        else:
            scores = _reduce(np.maximum if self.which == "max" else np.minimum, maps)
        return fallback_to_mean(scores, maps)


def _reduce(operation: np.ufunc, maps: Maps) -> Map:
    result: Map = maps[0].astype(np.float32)
    for one in maps[1:]:
        operation(result, one, out=result)
    return result


def _median(maps: Maps) -> Map:
    ranked = list(maps.astype(np.float32))
    spare = np.empty_like(ranked[0])
    for low, high in _comparators(len(ranked)):
        np.minimum(ranked[low], ranked[high], out=spare)
        np.maximum(ranked[low], ranked[high], out=ranked[high])
        ranked[low], spare = spare, ranked[low]
    middle: Map = ranked[(len(ranked) - 1) // 2] + ranked[len(ranked) // 2]
    return middle


def _comparators(count: int) -> Iterator[tuple[int, int]]:
    """Yield the pairs of indices to put in order, one after the other, to sort `count` maps.

    The pairs do not depend on the values, so each takes two passes over whole maps; sorting pixel
    by pixel takes ten times as long.

    References:
        Batcher's merge exchange, Knuth, "The Art of Computer Programming", volume 3, 5.2.2,
        algorithm M.
    """
    top = 1 << max(count - 1, 0).bit_length() >> 1
    step = top
    while step:
        bound, remainder, distance = top, 0, step
        while True:
            for low in range(count - distance):
                if low & step == remainder:
                    yield low, low + distance
            if bound == step:
                break
            distance, bound, remainder = bound - step, bound >> 1, step
        step >>= 1
