"""The lowest, middle or highest of the members' probabilities."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np

from ensemble.fusion import Fusion, by_pieces
from ensemble.strategies.means import or_mean
from evaluation.core.types import Map, Maps


def maximum() -> Fusion:
    """Take the highest probability that any member gives a class, and renormalise."""
    return OrderStatistic("max")


def minimum() -> Fusion:
    """Take the lowest probability that any member gives a class, and renormalise.

    Where each class has a member that gives it nothing, the mean decides.
    """
    return OrderStatistic("min")


def median() -> Fusion:
    """Take the median of the members' probabilities of a class, and renormalise.

    A minority of wild members has no effect, however wild. Where no class has a median above 0, the
    mean decides.
    """
    return OrderStatistic("median")


@dataclass(frozen=True)
class OrderStatistic:
    """The renormalised minimum, median or maximum of the members' maps."""

    which: Literal["min", "median", "max"]

    def __call__(self, maps: Maps) -> Map:
        """Fuse."""
        return by_pieces(maps, self._scores)

    def _scores(self, maps: Maps) -> Map:
        return or_mean(_STATISTICS[self.which](maps), maps)


def _highest(maps: Maps) -> Map:
    return _reduced(np.maximum, maps)


def _lowest(maps: Maps) -> Map:
    return _reduced(np.minimum, maps)


def _reduced(keep: np.ufunc, maps: Maps) -> Map:
    kept: Map = maps[0].astype(np.float32)
    for one in maps[1:]:
        keep(kept, one, out=kept)
    return kept


def _median(maps: Maps) -> Map:
    ranked = list(maps.astype(np.float32))
    spare = np.empty_like(ranked[0])
    for low, high in _exchanges(len(ranked)):
        np.minimum(ranked[low], ranked[high], out=spare)
        np.maximum(ranked[low], ranked[high], out=ranked[high])
        ranked[low], spare = spare, ranked[low]
    middle: Map = ranked[(len(ranked) - 1) // 2] + ranked[len(ranked) // 2]
    return middle


def _exchanges(count: int) -> Iterator[tuple[int, int]]:
    """Yield which places to put in order, one pair after the other, to sort `count` of them.

    The pairs do not depend on the values, so each is two passes over whole maps; sorting pixel by
    pixel takes ten times as long.

    Source: Batcher's merge exchange, Knuth, "The Art of Computer Programming", volume 3, 5.2.2,
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


_STATISTICS: dict[str, Callable[[Maps], Map]] = {
    "min": _lowest,
    "median": _median,
    "max": _highest,
}
