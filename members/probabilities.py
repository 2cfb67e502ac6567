"""What makes values probabilities, within the precision of the type that stores them."""

import numpy as np

from evaluation.core.errors import BadMaps
from evaluation.core.types import Map

STEPS_UINT8 = 255
"""uint8 maps hold probabilities times this."""

# The smallest step above zero in each type (float32: of a softmax); logarithms floor at half.
QUANTUM = {"float16": 2.0**-24, "uint8": 1 / STEPS_UINT8, "float32": 2.0**-24}


RANGE_TOLERANCE = 1e-3
"""How far a probability may lie outside 0 to 1."""

HALF_PRECISION = 5e-3
"""How far half precision may move a sum: bfloat16 rounds by 1/256. Files of float32 and float64
get it too, since the softmax in them is often one of half precision."""


def sum_tolerance(dtype: str, classes: int) -> float:
    """Return how far the sum of a pixel's probabilities may lie from 1 in values of this type.

    Examples:
        >>> sum_tolerance("float32", 5), round(sum_tolerance("uint8", 5), 4)
        (0.005, 0.0108)
    """
    rounding = classes / (2 * STEPS_UINT8) + 1e-3 if dtype == "uint8" else 0.0
    return max(rounding, HALF_PRECISION)


def check_maps(maps: Map, dtype: str, *, kind: str = "probabilities") -> None:
    """Refuse maps that hold NaN, leave 0 to 1, or do not sum to 1.

    Args:
        maps: (image, class, row, col), already scaled to probabilities.
        dtype: the type they were stored in, which decides how far a sum may be off.
        kind: sums are checked for `probabilities` only.

    Raises:
        BadMaps: the first problem.
    """
    low, high = float(maps.min()), float(maps.max())  # NaN where any value is
    if not np.isfinite((low, high)).all():
        bad = ~np.isfinite(maps)
        first = int(bad.reshape(len(maps), -1).any(axis=1).argmax())
        raise BadMaps(
            f"{int(bad.sum())} values are NaN or infinite (first in image {first} of {len(maps)}"
            " checked); expected probabilities from 0 to 1: predict again, in float32 if they"
            " overflowed"
        )
    if low < 0 or high > 1 + RANGE_TOLERANCE:
        raise BadMaps(f"values go from {low:.6g} to {high:.6g}; expected probabilities from 0 to 1")
    if kind == "probabilities":
        sums = maps.sum(axis=1)
        worst = sums.flat[np.abs(sums - 1).argmax()]
        tolerance = sum_tolerance(dtype, maps.shape[1])
        if abs(worst - 1) > tolerance:
            raise BadMaps(
                f"a pixel's classes sum to {worst:.6g}; expected 1, within {tolerance:.2g}"
            )
