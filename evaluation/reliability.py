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
