"""Metrics of probabilities, over the scored pixels.

The probability of the ignored class is divided among the others in proportion, as if it did not
exist.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated

import numpy as np
from jaxtyping import Float, Integer
from pydantic import Field

from evaluation.confusion import scored_pixels
from evaluation.core.types import Array
from evaluation.iou import mean_over_present, safe_divide
from evaluation.metrics.metric_base import Metric, MetricInput, MetricValue
from evaluation.reliability import (
    BINS,
    bin_confidence,
    calibration_gap,
    equal_counts,
    largest_calibration_gap,
)

PixelProbs = Float[np.ndarray, "pixel scored_class"]
TargetLabels = Integer[np.ndarray, " pixel"]
Bins = Annotated[int, Field(ge=1, le=1000)]

LEVELS = 4096
"""Confidences that are sorted are rounded to 1/4,096, so that memory is flat; those of one level
are tied."""


@dataclass(frozen=True)
class ScoredPixels:
    """The scored pixels of one image.

    Args:
        probs: of the scored classes; they sum to 1.
        target: index of the target class among the scored ones.
        scored: labels of the scored classes.
        classes: number of classes, the ignored one included.
        floor: lower bound of probabilities before taking logarithms.
    """

    probs: PixelProbs
    target: TargetLabels
    scored: tuple[int, ...]
    classes: int
    floor: float

    def top(self) -> tuple[Array, Array]:
        """Return each pixel's most probable class and its probability."""
        pred = self.probs.argmax(axis=1)
        return pred, self.probs[np.arange(len(pred)), pred]


def log_loss() -> Metric:
    """Mean of -log of the target class's probability; of a class, over its own pixels.

    Probabilities below the maps' floor (half a quantum of their store) are raised to it.

    References:
        Good, "Rational Decisions", Journal of the Royal Statistical Society B 1952;
        `sklearn.metrics.log_loss`.
    """

    def accumulate(pixels: ScoredPixels) -> Array:
        probs = pixels.probs[np.arange(len(pixels.target)), pixels.target]
        losses = -np.log(np.maximum(probs, pixels.floor))
        count = len(pixels.scored)
        sums = [np.bincount(pixels.target, weights, count) for weights in (losses, None)]
        return _scatter(np.stack(sums), pixels)

    def compute(sums: Array) -> MetricValue:
        losses, pixels = sums[..., 0, :], sums[..., 1, :]
        total = safe_divide(np.asarray(losses.sum(axis=-1)), np.asarray(pixels.sum(axis=-1)))
        return MetricValue(total, safe_divide(losses, pixels))

    return _pixel_metric(accumulate, compute)


def brier() -> Metric:
    """Mean squared distance between the probabilities and the one-hot target, 0 to 2.

    A class's part is its own squared distance over all scored pixels; the parts add up.

    References:
        Brier, "Verification of Forecasts Expressed in Terms of Probability", Monthly Weather Review
        1950; `sklearn.metrics.brier_score_loss(scale_by_half=False)`.
    """

    def accumulate(pixels: ScoredPixels) -> Array:
        errors = pixels.probs.copy()
        errors[np.arange(len(errors)), pixels.target] -= 1
        squares = np.square(errors).sum(axis=0)
        return _scatter(np.stack([squares, np.full(len(squares), len(errors))]), pixels)

    def compute(sums: Array) -> MetricValue:
        parts = safe_divide(sums[..., 0, :], sums[..., 1, :])
        total = np.where(np.isnan(parts).all(axis=-1), np.nan, np.nansum(parts, axis=-1))
        return MetricValue(np.asarray(total), parts)

    return _pixel_metric(accumulate, compute)


def ece(*, bins: Bins = BINS) -> Metric:
    """Expected calibration error: mean distance of the top class's probability from its accuracy.

    Args:
        bins: number of bins of equal width over confidence.

    References:
        Guo et al., "On Calibration of Modern Neural Networks", ICML 2017, equation 3.
    """

    def accumulate(pixels: ScoredPixels) -> Array:
        pred, confidence = pixels.top()
        return bin_confidence(confidence, pred == pixels.target, bins)

    return _pixel_metric(accumulate, lambda sums: MetricValue(calibration_gap(sums), bins=sums))


def adaptive_ece(*, bins: Bins = BINS) -> Metric:
    """Expected calibration error with bins of equal numbers of pixels.

    Bins of equal width leave most of them nearly empty where predictions are confident. Confidences
    are sorted to 1/4,096, and pixels of one such level that lie in two bins are divided among them.

    Args:
        bins: number of bins.

    References:
        Nguyen and O'Connor, "Posterior calibration and exploratory analysis for natural language
        processing models", EMNLP 2015; for the top class Mukhoti et al., "Calibrating Deep Neural
        Networks using Focal Loss", NeurIPS 2020 (AdaECE).

    Examples:
        >>> maps = np.array([[0.9, 0.6, 0.8, 0.7], [0.1, 0.4, 0.2, 0.3]])[None, :, None]
        >>> target, pred = np.array([[[0, 1, 0, 0]]], np.uint8), np.zeros((1, 1, 4), np.uint8)
        >>> adaptive_ece(bins=2).measure(target, pred, classes=2, maps=maps).overall.round(3)
        array([0.15])
    """

    def accumulate(pixels: ScoredPixels) -> Array:
        pred, confidence = pixels.top()
        return bin_confidence(confidence, pred == pixels.target, LEVELS)

    def compute(sums: Array) -> MetricValue:
        return MetricValue(calibration_gap(equal_counts(sums, bins)))

    return _pixel_metric(accumulate, compute)


def max_calibration_error(*, bins: Bins = BINS) -> Metric:
    """Largest distance, over the bins, of the top class's mean probability from its accuracy.

    Bins of few pixels count as much as others, so it is noisy where there are few images.

    Args:
        bins: number of bins of equal width over confidence.

    References:
        Guo et al., "On Calibration of Modern Neural Networks", ICML 2017, equation 5; torchmetrics'
        `MulticlassCalibrationError(norm="max")`.

    Examples:
        >>> maps = np.array([[0.9, 0.6, 0.8, 0.7], [0.1, 0.4, 0.2, 0.3]])[None, :, None]
        >>> target, pred = np.array([[[0, 1, 0, 0]]], np.uint8), np.zeros((1, 1, 4), np.uint8)
        >>> max_calibration_error().measure(target, pred, classes=2, maps=maps).overall.round(3)
        array([0.6])
    """

    def accumulate(pixels: ScoredPixels) -> Array:
        pred, confidence = pixels.top()
        return bin_confidence(confidence, pred == pixels.target, bins)

    return _pixel_metric(accumulate, lambda sums: MetricValue(largest_calibration_gap(sums)))


def classwise_ece(*, bins: Bins = BINS) -> Metric:
    """Mean over classes of the distance between a class's probability and its frequency.

    Args:
        bins: number of bins of equal width over the class's probability.

    References:
        Kull et al., "Beyond temperature scaling", NeurIPS 2019, equation for classwise-ECE.
    """

    def accumulate(pixels: ScoredPixels) -> Array:
        each = [
            bin_confidence(pixels.probs[:, index], pixels.target == index, bins)
            for index in range(len(pixels.scored))
        ]
        return _scatter(np.stack(each, axis=-1), pixels)

    def compute(sums: Array) -> MetricValue:
        gaps = calibration_gap(np.moveaxis(sums, -1, -3))
        return MetricValue(mean_over_present(gaps), gaps)

    return _pixel_metric(accumulate, compute)


def risk_coverage() -> Metric:
    """Area under the risk-coverage curve; lower is better.

    Pixels are taken in order of decreasing confidence; the risk is the share of wrong ones among
    those taken, and the area is its mean over all coverages. Tied pixels are taken one by one, each
    as wrong as the tie is on average.

    References:
        Geifman and El-Yaniv, "Selective Classification for Deep Neural Networks", NeurIPS 2017, for
        the curve; Geifman et al., "Bias-Reduced Uncertainty Estimation for Deep Neural
        Classifiers", ICLR 2019, for its area.
    """

    def accumulate(pixels: ScoredPixels) -> Array:
        pred, confidence = pixels.top()
        level = np.minimum((confidence * LEVELS).astype(np.intp), LEVELS - 1)
        wrong = pred != pixels.target
        counts = [np.bincount(level, weights, LEVELS) for weights in (None, wrong)]
        return np.stack(counts).astype(np.float64)

    return _pixel_metric(accumulate, lambda sums: MetricValue(_area(sums)))


def _area(sums: Array) -> Array:
    pixels, wrong = np.moveaxis(sums[..., ::-1], -2, 0)
    taken, errors_taken = np.cumsum(pixels, axis=-1), np.cumsum(wrong, axis=-1)
    before, errors = taken - pixels, errors_taken - wrong
    # Within a level the risk after k more pixels is (errors + k share) / (before + k); summed over
    # k it needs the harmonic numbers between the two coverages.
    share = np.divide(wrong, pixels, out=np.zeros_like(wrong), where=pixels > 0)
    harmonic = _harmonic(taken) - _harmonic(before)
    areas = share * pixels + (errors - share * before) * harmonic
    return safe_divide(np.asarray(areas.sum(axis=-1)), np.asarray(taken[..., -1]))


def _harmonic(numbers: Array) -> Array:
    """Return 1 + 1/2 + ... + 1/n."""
    from scipy.special import digamma  # slow to import

    sums: Array = digamma(numbers + 1.0) + np.euler_gamma
    return sums


def _pixel_metric(
    accumulate: Callable[[ScoredPixels], Array], compute: Callable[[Array], MetricValue]
) -> Metric:
    """Return a metric from the terms of one image's scored pixels and the value of their sums."""

    def accumulate_block(images: MetricInput) -> Array:
        return np.stack([accumulate(_pixels(images, i)) for i in range(len(images.target))])

    return Metric("maps", accumulate_block, compute)


def _pixels(images: MetricInput, index: int) -> ScoredPixels:
    assert images.maps is not None
    classes = tuple(label for label in range(images.classes) if label != images.ignore)
    target = images.target[index]
    scored = scored_pixels(target, images.ignore)
    probs = np.moveaxis(images.maps[index], 0, -1)[scored][:, classes].astype(np.float64)
    total = probs.sum(axis=1, keepdims=True)
    uniform = np.full_like(probs, 1 / len(classes))
    normalised = np.divide(probs, total, out=uniform, where=total > 0)
    indices = np.searchsorted(classes, target[scored])
    return ScoredPixels(normalised, indices, classes, images.classes, images.floor)


def _scatter(values: Array, pixels: ScoredPixels) -> Array:
    """Move values of the scored classes, on the last axis, to the indices of their labels."""
    scattered = np.zeros((*values.shape[:-1], pixels.classes))
    scattered[..., list(pixels.scored)] = values
    return scattered
