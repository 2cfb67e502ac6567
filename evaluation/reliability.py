"""Reliability: how often predictions of a given confidence are correct, and the mean error."""

import numpy as np
from jaxtyping import Float

from evaluation.confusion import scored_pixels
from evaluation.core.types import Array, Labels, Map
from evaluation.iou import safe_divide

BINS = 15

Reliability = Float[np.ndarray, "*sets 3 bin"]
"""For each bin of confidence: pixels, sum of their confidences, and number of correct ones."""


def reliability(fused: Map, target: Labels, *, ignore: int | None, bins: int = BINS) -> Reliability:
    """Sort scored pixels into bins of equal width by the probability of the most probable class.

    Results of different images add up. The probability of the ignored class is divided among the
    others in proportion, since its pixels are not scored.

    Args:
        fused: probabilities.
        target: class index per pixel; 255 where unlabelled.
        ignore: the ignored class, or None.
        bins: number of bins; a bin includes its lower edge, the last bin both.
    """
    classes = [label for label in range(fused.shape[1]) if label != ignore]
    scored = scored_pixels(target, ignore)
    probs = np.moveaxis(fused, 1, -1)[scored][:, classes].astype(np.float64)
    total = probs.sum(axis=1)
    pred = probs.argmax(axis=1)
    top = probs[np.arange(len(probs)), pred]
    confidence = np.divide(top, total, out=np.full(len(top), 1 / len(classes)), where=total > 0)
    return bin_confidence(confidence, np.array(classes)[pred] == target[scored], bins)


def bin_confidence(confidence: Array, correct: Array, bins: int) -> Reliability:
    """Return pixels, sum of confidences and number of correct ones per bin, (3, bin)."""
    index = np.minimum((confidence * bins).astype(np.intp), bins - 1)
    counts = [np.bincount(index, weights, bins) for weights in (None, confidence, correct)]
    return np.stack(counts).astype(np.float64)


def calibration_gap(sums: Reliability) -> Array:
    """Return the expected calibration error of binned sums, (..., 3, bin); NaN without pixels."""
    pixels, confidence, correct = np.moveaxis(sums, -2, 0)
    gap = np.abs(confidence - correct).sum(axis=-1)
    return safe_divide(np.asarray(gap), np.asarray(pixels.sum(axis=-1)))


def largest_calibration_gap(sums: Reliability) -> Array:
    """Return the largest distance of a bin's confidence from its accuracy; NaN without pixels."""
    pixels, confidence, correct = np.moveaxis(sums, -2, 0)
    gaps = safe_divide(np.abs(confidence - correct), pixels)
    largest = np.where(np.isnan(gaps), 0, gaps).max(axis=-1)
    return np.where(pixels.any(axis=-1), largest, np.nan)


def equal_counts(sums: Reliability, bins: int) -> Array:
    """Merge fine bins into ones of equal numbers of pixels; a fine bin between two is divided."""
    merged = np.empty((*sums.shape[:-1], bins))
    for index in np.ndindex(sums.shape[:-2]):
        upto = np.pad(np.cumsum(sums[index], axis=-1), ((0, 0), (1, 0)))
        edges = np.linspace(0, upto[0, -1], bins + 1)
        for row, line in enumerate(upto):
            merged[(*index, row)] = np.diff(np.interp(edges, upto[0], line))
    return merged


def expected_calibration_error(sums: Reliability) -> float:
    """Return the mean distance between confidence and accuracy; NaN without any pixel.

    Bins are weighted by their pixels.

    References:
        Guo et al., "On Calibration of Modern Neural Networks", ICML 2017, equation 3.

    Examples:
        >>> expected_calibration_error(np.array([[2.0, 2.0], [0.5, 2.0], [1.0, 2.0]]))
        0.125
    """
    return float(calibration_gap(sums))
