"""Leave a class to the specialist that predicts it better than all other members together."""

from dataclasses import dataclass
from typing import Annotated

import numpy as np
from jaxtyping import Bool, Float, Integer
from pydantic import Field
from scipy.special import expit, logit

from ensemble.fusion import (
    CLASS_AXIS,
    SMALLEST,
    Blocks,
    Fusion,
    LearnedFusion,
    PixelwiseFusion,
)
from ensemble.regression import regression
from ensemble.sampling import PerPixel, PixelSample, SamplePixels, draw_pixels
from ensemble.strategies.means import MIN_LOG_ODDS_GAP, sum_members
from ensemble.strategies.votes import ONE_VS_REST
from evaluation.core.seeds import Seed
from evaluation.core.types import Array, Map, Maps

NO_CLASS = -1
L2 = 1e-6
"""Keeps the slope of a calibration finite where a specialist is always right."""

PerClass = Float[np.ndarray, "class"]
Mask = Bool[np.ndarray, "pixel"]


def gate(
    classes: int,
    ignore: int | None,
    kinds: tuple[str, ...],
    *,
    sample_pixels: SamplePixels = 100_000,
    floor: Annotated[float, Field(ge=SMALLEST, lt=0.5)] = 1e-6,
    seed: Seed = 0,
) -> LearnedFusion:
    """Average members of all classes, but leave a class to a specialist that predicts it better.

    Each specialist's probability is calibrated by a slope and an offset of its log-odds (Platt
    scaling). Where its IoU of the class, at a threshold of one half, is higher than that of the
    generalists' mean, its probability replaces theirs; of several specialists the best is taken.
    Then the classes are renormalised. Without specialists it is `mean` of the members.

    Args:
        ignore: the class whose pixels are left out of the fit; never left to a specialist.
        kinds: one per member: `one_vs_rest` is a set of specialists.
        sample_pixels: number of pixels to fit on, about as many of each class, weighted back to the
            true shares.
        floor: specialists' probabilities are clipped to `floor` and 1 - `floor`.
        seed: random seed of the sample.

    Examples:
        The generalist confuses the classes; the specialists are right.

        >>> from ensemble.fusion import TrainingBlock
        >>> target = np.array([[[0, 1, 1, 0]]])
        >>> general = np.full((1, 2, 1, 4), 0.5, np.float32)
        >>> special = np.eye(2, dtype=np.float32)[target].transpose(0, 3, 1, 2)
        >>> strategy = gate(2, None, ("probabilities", "one_vs_rest"))
        >>> strategy.fit([TrainingBlock(np.stack([general, special]), target)]).owner_member
        array([1, 1])
    """

    def fit(blocks: Blocks) -> Fusion:
        sample = draw_pixels(
            blocks, classes=classes, ignore=ignore, pixels=sample_pixels, seed=seed
        )
        return _fit(sample, kinds, max(floor, MIN_LOG_ODDS_GAP))

    return LearnedFusion(fit)


@dataclass(frozen=True)
class Gate(PixelwiseFusion):
    """The mean of the generalists, with classes that are left to specialists.

    Args:
        owner_member: the member that a class is left to, or -1.
        slope: factor of its log-odds.
        offset: added to them.
        floor: its probabilities are clipped to `floor` and 1 - `floor`.
    """

    owner_member: Integer[np.ndarray, "class"]
    slope: PerClass
    offset: PerClass
    kinds: tuple[str, ...]
    floor: float

    def _scores(self, maps: Maps) -> Map:
        scores = _mean(maps, self.kinds)
        for label in np.flatnonzero(self.owner_member != NO_CLASS):
            odds = _log_odds(maps[self.owner_member[label], :, label], self.floor)
            scores[:, label] = expit(odds * self.slope[label] + self.offset[label])
        # All classes may come out as 0.
        np.maximum(scores, np.float32(SMALLEST), out=scores)
        return scores


def _mean(maps: Maps, kinds: tuple[str, ...]) -> Map:
    """Return the mean of the generalists; where there are none, equal probabilities."""
    general = np.array([kind != ONE_VS_REST for kind in kinds])
    if not general.any():
        return np.full(maps.shape[1:], 1 / maps.shape[CLASS_AXIS], np.float32)
    scores = sum_members(maps if general.all() else maps[general])
    scores /= np.float32(np.count_nonzero(general))
    return scores


def _log_odds(probability: Array, floor: float) -> Array:
    odds: Array = logit(np.clip(probability, np.float32(floor), np.float32(1 - floor)))
    return odds


def _fit(sample: PixelSample, kinds: tuple[str, ...], floor: float) -> Gate:
    classes = sample.maps.shape[2]
    pooled = _mean(sample.maps.transpose(1, 0, 2)[..., None, None], kinds)
    pred = pooled.argmax(axis=CLASS_AXIS).ravel()
    owner, slope, offset = np.full(classes, NO_CLASS), np.ones(classes), np.zeros(classes)
    for label in np.flatnonzero(sample.counts):
        true = sample.target == label
        best = _iou(pred == label, true, sample.weight)
        for member in np.flatnonzero(np.array(kinds) == ONE_VS_REST):
            odds = _log_odds(sample.maps[:, member, label], floor).astype(np.float64)
            platt = _platt_scaling(odds, true, sample.weight)
            iou = _iou(odds * platt[0] + platt[1] > 0, true, sample.weight)
            if iou > best:
                best, owner[label], (slope[label], offset[label]) = iou, member, platt
    return Gate(owner, slope.astype(np.float32), offset.astype(np.float32), kinds, floor)


def _iou(pred: Mask, true: Mask, weight: PerPixel) -> float:
    return float(weight[pred & true].sum() / weight[pred | true].sum())


def _platt_scaling(odds: PerPixel, true: Mask, weight: PerPixel) -> tuple[float, float]:
    """Return slope and offset of the log-odds of the lowest log-loss."""
    identity = np.array([[0.0], [1.0]])
    weights, bias = regression(odds[:, None], true.astype(int), weight, prior=identity, l2=L2)
    return float(np.diff(weights[:, 0])[0]), float(np.diff(bias)[0])
