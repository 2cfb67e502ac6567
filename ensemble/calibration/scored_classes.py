"""Calibration conditional on the scored classes: the ignored class keeps its probability."""

from collections.abc import Callable

import numpy as np
from jaxtyping import Float

from ensemble.fusion import (
    CLASS_AXIS,
    SMALLEST,
    Fusion,
    ScoredLabels,
    by_pieces,
    scored_labels,
)
from ensemble.sampling import PixelSample, PixelTarget
from evaluation.core.types import Map, Maps

Calibrator = Callable[[PixelSample], Fusion]
"""Fits on a sample of one member's pixels."""

Shares = Float[np.ndarray, "pixel scored"]
Odds = Float[np.ndarray, "image scored row col"]


def condition_on_scored(
    sample: PixelSample, ignore: int | None
) -> tuple[ScoredLabels, Shares, PixelTarget]:
    """Return the scored classes, their probabilities given a scored class, and target indices.

    A class without a pixel counts as scored, too: that it never occurs can be learned.
    """
    scored = scored_labels(sample.maps.shape[2], ignore)
    shares = sample.maps[:, 0, scored].astype(np.float64)
    shares /= np.maximum(shares.sum(axis=1, keepdims=True), SMALLEST)
    return scored, shares, np.searchsorted(scored, sample.target)


def calibrate_scored(change: Callable[[Odds], Odds], maps: Maps, scored: ScoredLabels) -> Map:
    """Calibrate the only member's maps, piece by piece; see `redistribute`."""
    return by_pieces(maps, lambda piece: redistribute(piece[0], scored, change))


def redistribute(probs: Map, scored: ScoredLabels, change: Callable[[Odds], Odds]) -> Map:
    """Divide the probability of the scored classes among them by new odds.

    Args:
        probs: the probabilities before.
        change: turns the probabilities given a scored class, which it may overwrite, into odds; at
            least one of every pixel is above 0.
    """
    shares: Odds = probs[:, scored]
    total = shares.sum(axis=CLASS_AXIS, keepdims=True)
    shares /= np.maximum(total, np.float32(SMALLEST))
    odds = change(shares)
    odds *= total / odds.sum(axis=CLASS_AXIS, keepdims=True)
    scores: Map = probs.copy()
    scores[:, scored] = odds
    return scores
