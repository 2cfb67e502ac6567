"""Metrics of probabilities, over the pixels whose target is not the ignored class.

Expected calibration error of the top label, and of every class by itself.

What is wrong among the pixels that are most sure, however many are taken.

What maps say about the scored pixels of an image, as if the ignored class did not exist.

Proper scoring rules: what honest probabilities make small.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated

import numpy as np
from jaxtyping import Float, Integer
from pydantic import Field

from evaluation.core.classes import UNLABELLED
from evaluation.core.types import Array
from evaluation.iou import mean_over_present, safe_divide
from evaluation.metrics.metric_base import Metric, MetricInput, MetricValue
from evaluation.reliability import BINS

Said = Float[np.ndarray, "pixel scored_class"]
True_ = Integer[np.ndarray, " pixel"]


@dataclass(frozen=True)
class ScoredPixels:
    """The scored pixels of one image.

    Args:
        said: probabilities of the scored classes, which sum to 1.
        true: index of the true class among the scored.
        scored: the labels of the scored classes.
        classes: how many classes there are, the ignored one included.
        floor: what logarithms go down to.
    """

    said: Said
    true: True_
    scored: tuple[int, ...]
    classes: int
    floor: float


def of_pixels(
    measured: Callable[[ScoredPixels], Array], value: Callable[[Array], MetricValue]
) -> Metric:
    """Make a metric of the scored pixels' probabilities.

    Args:
        measured: gives an image's terms.
        value: of their sums.
    """

    def terms(seen: MetricInput) -> Array:
        return np.stack([measured(_pixels(seen, place)) for place in range(len(seen.target))])

    return Metric("maps", terms, value)


def _pixels(seen: MetricInput, place: int) -> ScoredPixels:
    assert seen.maps is not None
    scored = tuple(label for label in range(seen.classes) if label != seen.ignore)
    target = seen.target[place]
    kept = (target != UNLABELLED) & np.isin(target, scored)
    said = np.moveaxis(seen.maps[place], 0, -1)[kept][:, scored].astype(np.float64)
    total = said.sum(axis=1, keepdims=True)
    even = np.full_like(said, 1 / len(scored))
    true = np.searchsorted(scored, target[kept])
    shared = np.divide(said, total, out=even, where=total > 0)
    return ScoredPixels(shared, true, scored, seen.classes, seen.floor)


def spread(values: Array, pixels: ScoredPixels) -> Array:
    """Put values of the scored classes, on the last axis, at the places of their labels."""
    found = np.zeros((*values.shape[:-1], pixels.classes))
    found[..., list(pixels.scored)] = values
    return found


Bins = Annotated[int, Field(ge=1, le=1000)]


def ece(*, bins: Bins = BINS) -> Metric:
    """Mean distance between how sure the most probable class is and how often it is right.

    Args:
        bins: of equal width over confidence.

    Source: Guo et al., "On Calibration of Modern Neural Networks", ICML 2017, equation 3.
    """

    def terms(pixels: ScoredPixels) -> Array:
        top = pixels.said.argmax(axis=1)
        sure = pixels.said[np.arange(len(top)), top]
        return binned(sure, top == pixels.true, bins)

    return of_pixels(terms, lambda sums: MetricValue(distance(sums), bins=sums))


def classwise_ece(*, bins: Bins = BINS) -> Metric:
    """Mean over classes of the distance between a class' probability and how often it is there.

    Args:
        bins: of equal width over the class' probability.

    Source: Kull et al., "Beyond temperature scaling", NeurIPS 2019, equation for classwise-ECE.
    """

    def terms(pixels: ScoredPixels) -> Array:
        each = [
            binned(pixels.said[:, place], pixels.true == place, bins)
            for place in range(len(pixels.scored))
        ]
        return spread(np.stack(each, axis=-1), pixels)

    def value(sums: Array) -> MetricValue:
        found = distance(np.moveaxis(sums, -1, -3))
        return MetricValue(mean_over_present(found), found)

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
    return safe_divide(np.asarray(off), np.asarray(pixels.sum(axis=-1)))


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

    def terms(pixels: ScoredPixels) -> Array:
        top = pixels.said.argmax(axis=1)
        sure = pixels.said[np.arange(len(top)), top]
        level = np.minimum((sure * LEVELS).astype(np.intp), LEVELS - 1)
        wrong = top != pixels.true
        counted = [np.bincount(level, weights, LEVELS) for weights in (None, wrong)]
        return np.stack(counted).astype(np.float64)

    return of_pixels(terms, lambda sums: MetricValue(_area(sums)))


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
    return safe_divide(np.asarray(areas.sum(axis=-1)), np.asarray(taken[..., -1]))


def _harmonic(numbers: Array) -> Array:
    """Return 1 + 1/2 + ... + 1/n."""
    from scipy.special import digamma

    sums: Array = digamma(numbers + 1.0) + np.euler_gamma
    return sums


def log_loss() -> Metric:
    """Mean of -log of the true class' probability; of a class, over its own pixels.

    Probabilities below the maps' floor (half a quantum of their store) are raised to it.

    Source: Good, "Rational Decisions", Journal of the Royal Statistical Society B 1952;
    `sklearn.metrics.log_loss`.
    """

    def terms(pixels: ScoredPixels) -> Array:
        true = pixels.said[np.arange(len(pixels.true)), pixels.true]
        losses = -np.log(np.maximum(true, pixels.floor))
        count = len(pixels.scored)
        sums = [np.bincount(pixels.true, weights, count) for weights in (losses, None)]
        return spread(np.stack(sums), pixels)

    def value(sums: Array) -> MetricValue:
        losses, pixels = sums[..., 0, :], sums[..., 1, :]
        total = safe_divide(np.asarray(losses.sum(axis=-1)), np.asarray(pixels.sum(axis=-1)))
        return MetricValue(total, safe_divide(losses, pixels))

    return of_pixels(terms, value)


def brier() -> Metric:
    """Mean of the squared distance between the probabilities and certainty of the target, 0 to 2.

    A class' part is its own squared distance over all scored pixels; the parts add up.

    Source: Brier, "Verification of Forecasts Expressed in Terms of Probability", Monthly Weather
    Review 1950; `sklearn.metrics.brier_score_loss(scale_by_half=False)`.
    """

    def terms(pixels: ScoredPixels) -> Array:
        off = pixels.said.copy()
        off[np.arange(len(off)), pixels.true] -= 1
        squares = np.square(off).sum(axis=0)
        return spread(np.stack([squares, np.full(len(squares), len(off))]), pixels)

    def value(sums: Array) -> MetricValue:
        parts = safe_divide(sums[..., 0, :], sums[..., 1, :])
        total = np.where(np.isnan(parts).all(axis=-1), np.nan, np.nansum(parts, axis=-1))
        return MetricValue(np.asarray(total), parts)

    return of_pixels(terms, value)
