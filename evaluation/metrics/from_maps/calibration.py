"""Expected calibration error of the top label, and of every class by itself."""

from typing import Annotated

import numpy as np
from pydantic import Field

from evaluation.calibration import BINS
from evaluation.ground.arrays import Array
from evaluation.iou import mean_over_present, shares
from evaluation.metrics.from_maps.said import Pixels, of_pixels, spread
from evaluation.metrics.measure import Measured, Metric

Bins = Annotated[int, Field(ge=1, le=1000)]


def ece(*, bins: Bins = BINS) -> Metric:
    """Mean distance between how sure the most probable class is and how often it is right.

    Args:
        bins: of equal width over confidence.

    Source: Guo et al., "On Calibration of Modern Neural Networks", ICML 2017, equation 3.
    """

    def terms(pixels: Pixels) -> Array:
        top = pixels.said.argmax(axis=1)
        sure = pixels.said[np.arange(len(top)), top]
        return binned(sure, top == pixels.true, bins)

    return of_pixels(terms, lambda sums: Measured(distance(sums), bins=sums))


def classwise_ece(*, bins: Bins = BINS) -> Metric:
    """Mean over classes of the distance between a class' probability and how often it is there.

    Args:
        bins: of equal width over the class' probability.

    Source: Kull et al., "Beyond temperature scaling", NeurIPS 2019, equation for classwise-ECE.
    """

    def terms(pixels: Pixels) -> Array:
        each = [
            binned(pixels.said[:, place], pixels.true == place, bins)
            for place in range(len(pixels.scored))
        ]
        return spread(np.stack(each, axis=-1), pixels)

    def value(sums: Array) -> Measured:
        found = distance(np.moveaxis(sums, -1, -3))
        return Measured(mean_over_present(found), found)

    return of_pixels(terms, value)


def binned(sure: Array, right: Array, bins: int) -> Array:
    """Return pixels, confidences added up, and how many were right, (3, bin)."""
    place = np.minimum((sure * bins).astype(np.intp), bins - 1)
    counted = [np.bincount(place, weights, bins) for weights in (None, sure, right)]
    return np.stack(counted).astype(np.float64)


def distance(sums: Array) -> Array:
    """Return the calibration error by binned sums, (..., 3, bin)."""
    pixels, sure, right = np.moveaxis(sums, -2, 0)
    off = np.abs(sure - right).sum(axis=-1)
    return shares(np.asarray(off), np.asarray(pixels.sum(axis=-1)))
