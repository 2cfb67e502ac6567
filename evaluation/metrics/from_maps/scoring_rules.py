"""Proper scoring rules: what honest probabilities make small."""

import numpy as np

from evaluation.ground.arrays import Array
from evaluation.iou import shares
from evaluation.metrics.from_maps.said import Pixels, of_pixels, spread
from evaluation.metrics.measure import Measured, Metric


def log_loss() -> Metric:
    """Mean of -log of the true class' probability; of a class, over its own pixels.

    Probabilities below the maps' floor (half a quantum of their store) are raised to it.

    Source: Good, "Rational Decisions", Journal of the Royal Statistical Society B 1952;
    `sklearn.metrics.log_loss`.
    """

    def terms(pixels: Pixels) -> Array:
        true = pixels.said[np.arange(len(pixels.true)), pixels.true]
        losses = -np.log(np.maximum(true, pixels.floor))
        count = len(pixels.scored)
        sums = [np.bincount(pixels.true, weights, count) for weights in (losses, None)]
        return spread(np.stack(sums), pixels)

    def value(sums: Array) -> Measured:
        losses, pixels = sums[..., 0, :], sums[..., 1, :]
        total = shares(np.asarray(losses.sum(axis=-1)), np.asarray(pixels.sum(axis=-1)))
        return Measured(total, shares(losses, pixels))

    return of_pixels(terms, value)


def brier() -> Metric:
    """Mean of the squared distance between the probabilities and certainty of the truth, 0 to 2.

    A class' part is its own squared distance over all scored pixels; the parts add up.

    Source: Brier, "Verification of Forecasts Expressed in Terms of Probability", Monthly Weather
    Review 1950; `sklearn.metrics.brier_score_loss(scale_by_half=False)`.
    """

    def terms(pixels: Pixels) -> Array:
        off = pixels.said.copy()
        off[np.arange(len(off)), pixels.true] -= 1
        squares = np.square(off).sum(axis=0)
        return spread(np.stack([squares, np.full(len(squares), len(off))]), pixels)

    def value(sums: Array) -> Measured:
        parts = shares(sums[..., 0, :], sums[..., 1, :])
        total = np.where(np.isnan(parts).all(axis=-1), np.nan, np.nansum(parts, axis=-1))
        return Measured(np.asarray(total), parts)

    return of_pixels(terms, value)
