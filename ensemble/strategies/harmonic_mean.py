"""The harmonic mean over members."""

from dataclasses import dataclass
from typing import Annotated

import numpy as np
from pydantic import Field

from ensemble.fusion import SMALLEST, Fusion, by_pieces
from evaluation.ground.arrays import Map, Maps


def harmonic_mean(*, floor: Annotated[float, Field(ge=SMALLEST, lt=1)] = 1e-6) -> Fusion:
    """Average reciprocals of probabilities, take the reciprocal and renormalise.

    One "no" weighs more still than in the geometric mean: the least probable say about a class
    outweighs all others.

    Args:
        floor: probabilities below this are raised to it, so that a single zero is no veto for ever.
    """
    return HarmonicMean(floor)


@dataclass(frozen=True)
class HarmonicMean:
    """The renormalised harmonic mean of the members' maps."""

    floor: float

    def __call__(self, maps: Maps) -> Map:
        """Fuse."""
        return by_pieces(maps, self._scores)

    def _scores(self, maps: Maps) -> Map:
        floor = np.float32(self.floor)
        scores: Map = np.zeros(maps.shape[1:], np.float32)
        buffer = np.empty_like(scores)
        for one in maps:
            scores += np.reciprocal(np.maximum(one, floor, out=buffer), out=buffer)
        np.reciprocal(scores, out=scores)
        return scores
