"""What the field is: two Gaussian kernels, what each makes of labels, and how long to iterate."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from evaluation.core.types import Map

Costs = Float[np.ndarray, "class other"]
CLASS_AXIS = 1


@dataclass(frozen=True)
class Kernel:
    """A Gaussian kernel and the price of two labels under it.

    Args:
        sxy: reach in pixels.
        costs: what label `class` pays beside label `other`, symmetric. Only differences within a
            row matter: Potts is 0 on the diagonal and the weight elsewhere, or, the same but for a
            constant, minus the weight on the diagonal and 0 elsewhere.
        srgb: reach in colour, in grey levels of 0 to 255; None where colour plays no part.
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
class Model:
    """The whole field.

    Args:
        classes: how many labels.
        kernels: at most one without colour and one with it.
        iterations: of mean-field inference, at least 1.
        floor: smaller probabilities are raised to it before the logarithm.
    """

    classes: int
    kernels: tuple[Kernel, ...]
    iterations: int
    floor: float


def unary(maps: Map, floor: float) -> Map:
    """Return the cost of each label by the maps alone."""
    costs: Map = -np.log(np.maximum(maps, maps.dtype.type(floor)))
    return costs


def softmax(scores: Map) -> Map:
    """Return probabilities in proportion to exp(scores), a class axis second."""
    scaled = np.exp(scores - scores.max(axis=CLASS_AXIS, keepdims=True))
    maps: Map = scaled / scaled.sum(axis=CLASS_AXIS, keepdims=True)
    return maps
