"""What external values are: probabilities, or what can be made into them."""

from dataclasses import dataclass
from typing import Literal

import numpy as np

from evaluation.core.blocks import map_blocks
from evaluation.core.errors import BadMaps
from evaluation.core.types import Array
from members.external.formats import ExternalMaps
from members.probabilities import RANGE_TOLERANCE, STEPS_UINT8, sum_tolerance

Scale = Literal["as they are", "softmax", "divide by the sum"]

AS_THEY_ARE: Scale = "as they are"
SOFTMAX: Scale = "softmax"
BY_THE_SUM: Scale = "divide by the sum"

UNIFORM_SUM = 0.01
"""Sums whose range is a smaller share of the largest are of numbers that were scaled together."""


@dataclass(frozen=True)
class ValueRange:
    """The extremes of all values, and of the sums of each pixel's classes."""

    low: float
    high: float
    low_sum: float
    high_sum: float


def to_float32(values: Array, dtype: str) -> Array:
    """Return values (image, class, row, col) as float32; uint8 holds 255 times the values."""
    if dtype == "uint8":
        return np.asarray(np.multiply(values, np.float32(1 / STEPS_UINT8), dtype=np.float32))
    with np.errstate(over="ignore"):  # becomes infinite, and is refused as such
        return values.astype(np.float32, copy=False)


def value_range(external: ExternalMaps) -> ValueRange:
    """Return the range of all values, read block by block; labels are their own sums.

    Raises:
        BadMaps: NaN or infinite values.
    """

    def block_range(block: slice) -> tuple[float, float, float, float]:
        values = external.read(np.arange(block.start, block.stop))
        if not external.is_labels:
            values = to_float32(values, external.dtype)
        bad = ~np.isfinite(values)
        if bad.any():
            first = block.start + int(bad.reshape(len(values), -1).any(axis=1).argmax())
            where = f"image {first}" if external.ids is None else repr(external.ids[first])
            raise BadMaps(
                f"{external.name} holds NaN or infinite values (first in {where});"
                " expected numbers: predict again, in float32 if they overflowed"
            )
        sums = values if external.is_labels else values.sum(axis=1)
        return float(values.min()), float(values.max()), float(sums.min()), float(sums.max())

    ranges = np.array(list(map_blocks(block_range, external.extent)))
    low, high = ranges[:, [0, 2]].min(axis=0), ranges[:, [1, 3]].max(axis=0)
    return ValueRange(float(low[0]), float(high[0]), float(low[1]), float(high[1]))


def classify_range(values: ValueRange, *, classes: int, dtype: str) -> tuple[Scale, str]:
    """Return what makes the values probabilities, and the evidence; "" where they already are.

    Values outside 0 to 1 are logits, unless all pixels have the same sum: percentages, say, or
    probabilities that an interpolation carried beyond the ends.

    Examples:
        >>> classify_range(ValueRange(0.0, 100.0, 100.0, 100.0), classes=3, dtype="float32")[0]
        'divide by the sum'
    """
    tolerance = sum_tolerance(dtype, classes)
    low, high = values.low_sum, values.high_sum
    range_text = f"values go from {values.low:.6g} to {values.high:.6g}"
    sums_text = f"a pixel's classes sum to {low:.6g} to {high:.6g}"
    uniform = high > 0 and high - low <= UNIFORM_SUM * high
    outside = values.low < -RANGE_TOLERANCE or values.high > 1 + RANGE_TOLERANCE
    if outside and not uniform:
        return SOFTMAX, f"logits given as probabilities: {range_text}, {sums_text}"
    if outside or low < 1 - tolerance or high > 1 + tolerance:
        return BY_THE_SUM, f"sums that are not 1: {sums_text}, {range_text}"
    return AS_THEY_ARE, ""


def to_probabilities(values: Array, scale: Scale) -> Array:
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
