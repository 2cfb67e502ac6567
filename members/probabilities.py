"""What makes values probabilities, within the precision of the type that stores them."""

import numpy as np

from evaluation.core.errors import BadMaps
from evaluation.core.types import Map

STEPS_UINT8 = 255
"""uint8 maps hold probabilities times this."""

# The smallest step above zero in each type (float32: of a softmax); logarithms floor at half.
QUANTUM = {"float16": 2.0**-24, "uint8": 1 / STEPS_UINT8, "float32": 2.0**-24}


def sum_tolerance(dtype: str, classes: int) -> float:
    """Return how far the sum of a pixel's probabilities may lie from 1 in this type."""
    if dtype == "uint8":
        return classes / (2 * STEPS_UINT8) + 1e-3
    return 5e-3 if dtype == "float16" else 1e-4


def check_maps(maps: Map, dtype: str, *, kind: str = "probabilities") -> None:
    """Refuse maps that hold NaN, leave 0 to 1, or do not sum to 1.

    Args:
        maps: (image, class, row, col), already scaled to probabilities.
        dtype: the type they were stored in, which decides how far a sum may be off.
        kind: sums are checked for `probabilities` only.

    Raises:
        BadMaps: the first problem.
    """
    bad = ~np.isfinite(maps)
    if bad.any():
        first = int(bad.reshape(len(maps), -1).any(axis=1).argmax())
        raise BadMaps(
            f"{int(bad.sum())} values are NaN or infinite (first in image {first} of {len(maps)}"
            " checked); expected probabilities from 0 to 1: predict again, in float32 if they"
            " overflowed"
        )
    low, high = float(maps.min()), float(maps.max())
    if low < 0 or high > 1 + 1e-3:
        raise BadMaps(f"values go from {low:.3g} to {high:.3g}; expected probabilities from 0 to 1")
    if kind == "probabilities":
        sums = maps.sum(axis=1)
        worst = sums.flat[np.abs(sums - 1).argmax()]
        if abs(worst - 1) > sum_tolerance(dtype, maps.shape[1]):
            raise BadMaps(f"a pixel's classes sum to {worst:.4g}; expected 1")
