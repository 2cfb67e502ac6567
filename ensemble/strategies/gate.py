"""Classes left to the specialists that know them better than all others together."""

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
    by_pieces,
)
from ensemble.regression import regression
from ensemble.sampling import PerPixel, PixelSample, sample
from ensemble.strategies.means import NEAREST, total
from ensemble.strategies.votes import ONE_VS_REST
from evaluation.core.types import Array, Map, Maps

NOBODY = -1
L2 = 1e-6
"""Holds the slope of a calibration to 1 where a specialist is never wrong."""

PerClass = Float[np.ndarray, "class"]
Yes = Bool[np.ndarray, "pixel"]


def gate(
    classes: int,
    ignore: int | None,
    kinds: tuple[str, ...],
    *,
    sample_pixels: Annotated[int, Field(ge=1)] = 100_000,
    floor: Annotated[float, Field(ge=SMALLEST, lt=0.5)] = 1e-6,
    seed: Annotated[int, Field(ge=0)] = 0,
) -> LearnedFusion:
    """Average members of all classes, but leave a class to a specialist that knows it better.

    Each specialist's probability is calibrated by a slope and an offset of its log-odds (Platt's
    scaling). Where its IoU for the class, saying yes above one half, is higher than that of the
    generalists' mean, its probability takes the place of theirs; of several, the best. Then all are
    made to sum to 1. Without specialists it is `mean` of the members.

    Args:
        classes: how many classes there are.
        ignore: the class whose pixels are not learned from; never left to a specialist.
        kinds: one a member: `one_vs_rest` is a family of specialists.
        sample_pixels: how many pixels to learn from, about the same number of each class, weighed
            back to the true shares.
        floor: specialists' probabilities below this are raised to it, and those above 1 - `floor`
            lowered to that.
        seed: of the draw of pixels.
    """

    def fit(blocks: Blocks) -> Fusion:
        drawn = sample(blocks, classes=classes, ignore=ignore, pixels=sample_pixels, seed=seed)
        return _learned(drawn, kinds, max(floor, NEAREST))

    return LearnedFusion(fit)


@dataclass(frozen=True)
class Gate:
    """The mean of the generalists, with classes that belong to specialists.

    Args:
        keeper: the member that a class is left to, or -1.
        slope: of its log-odds.
        offset: added to them.
        kinds: one a member.
        floor: how near to 0 and 1 its probabilities may come.
    """

    keeper: Integer[np.ndarray, "class"]
    slope: PerClass
    offset: PerClass
    kinds: tuple[str, ...]
    floor: float

    def __call__(self, maps: Maps) -> Map:
        """Fuse."""
        return by_pieces(maps, self._scores)

    def _scores(self, maps: Maps) -> Map:
        scores = _mean(maps, self.kinds)
        for label in np.flatnonzero(self.keeper != NOBODY):
            said = _log_odds(maps[self.keeper[label], :, label], self.floor)
            scores[:, label] = expit(said * self.slope[label] + self.offset[label])
        # Nobody may be left with any class at all.
        np.maximum(scores, np.float32(SMALLEST), out=scores)
        return scores


def _mean(maps: Maps, kinds: tuple[str, ...]) -> Map:
    """Return the mean of the generalists, and where there are none, no preference."""
    general = np.array([kind != ONE_VS_REST for kind in kinds])
    if not general.any():
        return np.full(maps.shape[1:], 1 / maps.shape[CLASS_AXIS], np.float32)
    scores = total(maps if general.all() else maps[general])
    scores /= np.float32(np.count_nonzero(general))
    return scores


def _log_odds(probability: Array, floor: float) -> Array:
    odds: Array = logit(np.clip(probability, np.float32(floor), np.float32(1 - floor)))
    return odds


def _learned(drawn: PixelSample, kinds: tuple[str, ...], floor: float) -> Gate:
    classes = drawn.maps.shape[2]
    pooled = _mean(drawn.maps.transpose(1, 0, 2)[..., None, None], kinds)
    pred = pooled.argmax(axis=CLASS_AXIS).ravel()
    keeper, slope, offset = np.full(classes, NOBODY), np.ones(classes), np.zeros(classes)
    for label in np.flatnonzero(drawn.counts):
        true = drawn.target == label
        best = _iou(pred == label, true, drawn.weight)
        for member in np.flatnonzero(np.array(kinds) == ONE_VS_REST):
            said = _log_odds(drawn.maps[:, member, label], floor).astype(np.float64)
            own = _calibration(said, true, drawn.weight)
            iou = _iou(said * own[0] + own[1] > 0, true, drawn.weight)
            if iou > best:
                best, keeper[label], (slope[label], offset[label]) = iou, member, own
    return Gate(keeper, slope.astype(np.float32), offset.astype(np.float32), kinds, floor)


def _iou(pred: Yes, true: Yes, weight: PerPixel) -> float:
    return float(weight[pred & true].sum() / weight[pred | true].sum())


def _calibration(said: PerPixel, true: Yes, weight: PerPixel) -> tuple[float, float]:
    """Return slope and offset of log-odds that make the true answers most probable."""
    around = np.array([[0.0], [1.0]])
    weights, bias = regression(said[:, None], true.astype(int), weight, around=around, l2=L2)
    return float(np.diff(weights[:, 0])[0]), float(np.diff(bias)[0])
