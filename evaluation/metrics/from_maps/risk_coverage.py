"""What is wrong among the pixels that are most sure, however many are taken."""

import numpy as np

from evaluation.ground.arrays import Array
from evaluation.iou import shares
from evaluation.metrics.from_maps.said import Pixels, of_pixels
from evaluation.metrics.measure import Measured, Metric

LEVELS = 4096
"""Confidences are told apart to 1/4,096, so that memory is flat; those of one level are tied."""


def risk_coverage() -> Metric:
    """Area under the risk-coverage curve; less is better.

    Pixels are taken from the surest down; the risk is the share of wrong ones among those taken,
    and the area is its mean over all coverages. Ties are taken one by one at their common share.

    Source: Geifman and El-Yaniv, "Selective Classification for Deep Neural Networks", NeurIPS
    2017, for the curve; Geifman et al., "Bias-Reduced Uncertainty Estimation for Deep Neural
    Classifiers", ICLR 2019, for its area.
    """

    def terms(pixels: Pixels) -> Array:
        top = pixels.said.argmax(axis=1)
        sure = pixels.said[np.arange(len(top)), top]
        level = np.minimum((sure * LEVELS).astype(np.intp), LEVELS - 1)
        wrong = top != pixels.true
        counted = [np.bincount(level, weights, LEVELS) for weights in (None, wrong)]
        return np.stack(counted).astype(np.float64)

    return of_pixels(terms, lambda sums: Measured(_area(sums)))


def _area(sums: Array) -> Array:
    pixels, wrong = np.moveaxis(sums[..., ::-1], -2, 0)
    taken = np.cumsum(pixels, axis=-1)
    found = np.cumsum(wrong, axis=-1)
    before, errors = taken - pixels, found - wrong
    # Within a level the risk after k more pixels is (errors + k share) / (before + k); summed over
    # k it needs the harmonic numbers between the two coverages.
    share = np.divide(wrong, pixels, out=np.zeros_like(wrong), where=pixels > 0)
    harmonic = _harmonic(taken) - _harmonic(before)
    areas = share * pixels + (errors - share * before) * harmonic
    return shares(np.asarray(areas.sum(axis=-1)), np.asarray(taken[..., -1]))


def _harmonic(numbers: Array) -> Array:
    """Return 1 + 1/2 + ... + 1/n."""
    from scipy.special import digamma

    sums: Array = digamma(numbers + 1.0) + np.euler_gamma
    return sums
