"""The mean of the members' log-odds."""

from dataclasses import dataclass
from typing import Annotated

import numpy as np
from pydantic import Field

from ensemble.fusion import SMALLEST, Fusion, by_pieces
from ensemble.strategies.vetoing_means import factors_at_once
from evaluation.ground.arrays import Map, Maps

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
