"""Parameters of the field: up to two Gaussian kernels with label costs, and the inference."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from evaluation.core.types import Map

Costs = Float[np.ndarray, "class other"]
CLASS_AXIS = 1
RGB = 3


@dataclass(frozen=True)
class Kernel:
    """A Gaussian kernel and its label compatibility.

    Args:
        sxy: standard deviation of the position, in pixels.
        costs: cost of label `class` next to label `other`, symmetric. Only differences within a
            row matter: Potts is 0 on the diagonal and the weight elsewhere, or, the same but for a
            constant, minus the weight on the diagonal and 0 elsewhere.
        srgb: standard deviation of the colour, in grey levels of 0 to 255; None for a kernel on
            position alone.
    """

    sxy: float
    costs: Costs
    srgb: float | None = None

    @property
    def potts(self) -> float | None:
        """The weight where all pairs of unequal labels cost the same; else None."""
        first = float(self.costs[0, 0])
        same = np.array_equal(self.costs, first * np.eye(len(self.costs), dtype=np.float32))
        return -first if same else None


@dataclass(frozen=True)
class CrfParams:
    """The whole field.

    Args:
        kernels: at most one on position alone and one on position and colour.
        iterations: of mean-field inference, at least 1.
        floor: lower bound of probabilities before the logarithm.
    """

    classes: int
    kernels: tuple[Kernel, ...]
    iterations: int
    floor: float


def unary(maps: Map, floor: float) -> Map:
    """Return the unary energies: minus the logarithm of the maps."""
    costs: Map = -np.log(np.maximum(maps, maps.dtype.type(floor)))
    return costs


def softmax(scores: Map) -> Map:
    """Return the softmax over classes, the second axis."""
    scaled = np.exp(scores - scores.max(axis=CLASS_AXIS, keepdims=True))
    maps: Map = scaled / scaled.sum(axis=CLASS_AXIS, keepdims=True)
    return maps
