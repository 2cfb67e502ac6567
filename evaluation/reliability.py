"""How often a prediction is right that says it is right so often: reliability and its mean error."""

import numpy as np
from jaxtyping import Float

from evaluation.core.classes import UNLABELLED
from evaluation.core.types import Labels, Map

BINS = 15

Reliability = Float[np.ndarray, "*sets 3 bin"]
"""For each bin of confidence: pixels, their confidences added up, and how many were right."""


def reliability(fused: Map, target: Labels, *, ignore: int | None, bins: int = BINS) -> Reliability:
    """Sort scored pixels into bins of equal width by the probability of the most probable class.

    Results of different images add up. A pixel counts as if the ignored class did not exist:
    what it was given is divided among the others in proportion, since its pixels are not scored.

    Args:
        fused: probabilities.
        target: class index per pixel; 255 where the annotators gave none.
        ignore: pixels of this true class are dropped; None drops none.
        bins: how many; the upper edge of a bin belongs to the next, that of the last to the last.
    """
    scored = [label for label in range(fused.shape[1]) if label != ignore]
    kept = (target != UNLABELLED) & (target != (UNLABELLED if ignore is None else ignore))
    said = np.moveaxis(fused, 1, -1)[kept][:, scored].astype(np.float64)
    total = said.sum(axis=1)
    pred = said.argmax(axis=1)
    top = said[np.arange(len(said)), pred]
    confidence = np.divide(top, total, out=np.full(len(top), 1 / len(scored)), where=total > 0)
    right = np.array(scored)[pred] == target[kept]
    place = np.minimum((confidence * bins).astype(np.intp), bins - 1)
    counted = [np.bincount(place, w, bins) for w in (None, confidence, right)]
    return np.stack(counted).astype(np.float64)


def ece(found: Reliability) -> float:
    """Return the expected calibration error: the mean distance of confidence from being right.

    Bins count by their pixels; NaN without any pixel.

    Source: Guo et al., "On Calibration of Modern Neural Networks", ICML 2017, equation 3.
    """
    pixels, confidence, right = found
    return float(np.abs(confidence - right).sum() / pixels.sum()) if pixels.any() else float("nan")
