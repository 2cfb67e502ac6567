"""What makes values probabilities, as far as the type that they are stored in can tell."""

import numpy as np

from evaluation.core.errors import BadMaps
from evaluation.core.types import Map
from members.chunks import STEPS_UINT8

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
        dtype: the type they were stored in, which says how far a sum may be off.
        kind: sums are looked at for `probabilities` only.

    Raises:
        BadMaps: the first thing found.
    """
    if not np.isfinite(maps).all():
        count = int((~np.isfinite(maps)).sum())
        first = int((~np.isfinite(maps)).reshape(len(maps), -1).any(axis=1).argmax())
        raise BadMaps(
            f"{count} values are NaN or infinite (first in image {first} of {len(maps)} looked"
            " at); expected probabilities from 0 to 1: predict again, in float32 if they overflowed"
        )
    low, high = float(maps.min()), float(maps.max())
    if low < 0 or high > 1 + 1e-3:
        raise BadMaps(f"values go from {low:.3g} to {high:.3g}; expected probabilities from 0 to 1")
    if kind == "probabilities":
        sums = maps.sum(axis=1)
        worst = sums.flat[np.abs(sums - 1).argmax()]
        if abs(worst - 1) > sum_tolerance(dtype, maps.shape[1]):
            raise BadMaps(f"a pixel's classes sum to {worst:.4g}; expected 1")
