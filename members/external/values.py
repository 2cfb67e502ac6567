"""What foreign values are: probabilities, or what can be made into them."""

from dataclasses import dataclass
from typing import Literal

import numpy as np

from evaluation.core.blocks import map_blocks
from evaluation.core.errors import BadMaps
from evaluation.core.types import Array
from members.chunks import STEPS_UINT8
from members.external.formats import ExternalMaps
from members.probabilities import sum_tolerance

Scale = Literal["as they are", "softmax", "divide by the sum"]

AS_THEY_ARE: Scale = "as they are"
SOFTMAX: Scale = "softmax"
BY_THE_SUM: Scale = "divide by the sum"

SUM_TOLERANCE = 5e-3
"""What half precision somewhere on the way may cost; wider where the file's own type is coarser."""

BEYOND = 1e-3
"""How far a probability may lie outside 0 to 1."""

EVEN = 0.01
"""Sums whose range is a smaller share of the largest are of numbers that were scaled together."""


@dataclass(frozen=True)
class ValueRange:
    """What was found in all values.

    Args:
        low: the smallest.
        high: the largest.
        low_sum: the smallest sum of a pixel's classes.
        high_sum: the largest.
    """

    low: float
    high: float
    low_sum: float
    high_sum: float


def scaled(values: Array, dtype: str) -> Array:
    """Return values (image, class, row, col) as float32; uint8 holds 255 times the values."""
    if dtype == "uint8":
        return np.asarray(np.multiply(values, np.float32(1 / STEPS_UINT8), dtype=np.float32))
    with np.errstate(over="ignore"):  # becomes infinite, and is refused as such
        return values.astype(np.float32, copy=False)


def value_range(foreign: ExternalMaps) -> ValueRange:
    """Look at every value, block by block.

    Args:
        foreign: labels count as values; they have no sums to look at.

    Raises:
        BadMaps: NaN or infinite values.
    """

    def ranged(block: slice) -> tuple[float, float, float, float]:
        places = np.arange(block.start, block.stop)
        values = foreign.read(places)
        if not foreign.labels:
            values = scaled(values, foreign.dtype)
        bad = ~np.isfinite(values)
        if bad.any():
            first = block.start + int(bad.reshape(len(values), -1).any(axis=1).argmax())
            where = f"image {first}" if foreign.ids is None else repr(foreign.ids[first])
            raise BadMaps(
                f"{foreign.name} holds NaN or infinite values (first in {where});"
                " expected numbers: predict again, in float32 if they overflowed"
            )
        sums = values if foreign.labels else values.sum(axis=1)
        return float(values.min()), float(values.max()), float(sums.min()), float(sums.max())

    found = np.array(list(map_blocks(ranged, foreign.size[0])))
    low, high = found[:, [0, 2]].min(axis=0), found[:, [1, 3]].max(axis=0)
    return ValueRange(float(low[0]), float(high[0]), float(low[1]), float(high[1]))


def classify_range(found: ValueRange, *, classes: int, dtype: str) -> tuple[Scale, str]:
    """Say what the values are.

    Values outside 0 to 1 are logits, unless all pixels have the same sum: percentages, say, or
    probabilities that an interpolation carried beyond the ends.

    Args:
        found: of all values.
        classes: how many there are.
        dtype: on disk.

    Returns:
        What makes them probabilities, and the evidence; empty where they are some already.
    """
    tolerance = max(sum_tolerance(dtype, classes), SUM_TOLERANCE)
    values = f"values go from {found.low:.3g} to {found.high:.3g}"
    sums = f"a pixel's classes sum to {found.low_sum:.4g} to {found.high_sum:.4g}"
    even = found.high_sum > 0 and found.high_sum - found.low_sum <= EVEN * found.high_sum
    outside = found.low < -BEYOND or found.high > 1 + BEYOND
    if outside and not even:
        return SOFTMAX, f"logits given as probabilities: {values}, {sums}"
    if outside or found.low_sum < 1 - tolerance or found.high_sum > 1 + tolerance:
        return BY_THE_SUM, f"sums that are not 1: {sums}, {values}"
    return AS_THEY_ARE, ""


def probabilities(values: Array, scale: Scale) -> Array:
    """Turn values (image, class, row, col) into probabilities that sum to 1.

    Rounding is divided away too. A pixel without any probability gets the uniform distribution.
    """
    if scale == SOFTMAX:
        values = np.exp(values - values.max(axis=1, keepdims=True))
    values = np.maximum(values, 0)
    sums = values.sum(axis=1, keepdims=True)
    empty = sums <= 0
    uniform = np.float32(1 / values.shape[1])
    return np.where(empty, uniform, values / np.where(empty, 1, sums)).astype(np.float32)
