"""The mean of sharpened probabilities."""

from dataclasses import dataclass
from typing import Annotated

import numpy as np
from pydantic import Field

from ensemble.fusion import Fusion, by_pieces
from evaluation.ground.arrays import Map, Maps

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
