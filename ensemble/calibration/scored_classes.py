"""The scored classes among themselves: what the ignored one has is neither learned nor changed."""

from collections.abc import Callable

import numpy as np
from jaxtyping import Float, Integer

from ensemble.fusion import (
    CLASS_AXIS,
    SMALLEST,
    Fusion,
    by_pieces,
)
from ensemble.sampling import PixelSample, PixelTarget
from evaluation.core.types import Map, Maps

Calibrator = Callable[[PixelSample], Fusion]
"""Learns from what one member said about some pixels."""

Labelled = Integer[np.ndarray, "scored"]
Shares = Float[np.ndarray, "pixel scored"]
Odds = Float[np.ndarray, "image scored row col"]


def condition_on_scored(
    drawn: PixelSample, ignore: int | None
) -> tuple[Labelled, Shares, PixelTarget]:
    """Return the labels of the scored classes, their shares of each pixel, and the target's place.

    A class without a pixel counts as scored, too: that it never occurs is something to learn.
    """
    scored = np.array([label for label in range(drawn.maps.shape[2]) if label != ignore])
    said = drawn.maps[:, 0, scored].astype(np.float64)
    said /= np.maximum(said.sum(axis=1, keepdims=True), SMALLEST)
    return scored, said, np.searchsorted(scored, drawn.target)


def calibrated_by(change: Callable[[Odds], Odds], maps: Maps, scored: Labelled) -> Map:
    """Calibrate the only member's maps, piece by piece; see `redistribute`."""
    return by_pieces(maps, lambda piece: redistribute(piece[0], scored, change))


def redistribute(one: Map, scored: Labelled, change: Callable[[Odds], Odds]) -> Map:
    """Divide among the scored classes, by new odds, what the ignored class leaves them.

    Args:
        one: the probabilities before.
        scored: labels of the scored classes.
        change: turns what the scored classes have of each pixel among themselves, which it may
            overwrite, into odds; no pixel's are all zero.
    """
    said: Odds = one[:, scored]
    rest = said.sum(axis=CLASS_AXIS, keepdims=True)
    said /= np.maximum(rest, np.float32(SMALLEST))
    odds = change(said)
    odds *= rest / odds.sum(axis=CLASS_AXIS, keepdims=True)
    scores: Map = one.copy()
    scores[:, scored] = odds
    return scores
