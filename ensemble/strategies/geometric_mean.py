"""The geometric mean over members."""

from dataclasses import dataclass
from typing import Annotated

import numpy as np
from pydantic import Field

from ensemble.fusion import SMALLEST, Fusion, by_pieces
from evaluation.ground.arrays import Map, Maps


def geometric_mean(*, floor: Annotated[float, Field(ge=SMALLEST, lt=1)] = 1e-6) -> Fusion:
    """Average log-probabilities and renormalise (a logarithmic opinion pool).

    One confident "no" vetoes a class, which `mean` forgives.

    Args:
        floor: probabilities below this are raised to it, so that a single zero is no veto for ever.
    """
    return GeometricMean(floor)


@dataclass(frozen=True)
class GeometricMean:
    """The renormalised geometric mean of the members' maps."""

    floor: float

    def __call__(self, maps: Maps) -> Map:
        """Fuse."""
        return by_pieces(maps, self._scores)

    def _scores(self, maps: Maps) -> Map:
        floor = np.float32(self.floor)
        scores: Map = np.zeros(maps.shape[1:], np.float32)
        logs = np.empty_like(scores)
        for one in maps:
            scores += np.log(np.maximum(one, floor, out=logs), out=logs)
        scores /= np.float32(len(maps))
        np.exp(scores, out=scores)
        return scores
