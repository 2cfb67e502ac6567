"""Leave a class to the specialist that predicts it better than all other members together."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Annotated

import numpy as np
from jaxtyping import Bool, Float, Integer
from pydantic import Field
from scipy.special import expit, logit

from ensemble.decision import DecisionSample, Learner, Objective
from ensemble.fusion import (
    CLASS_AXIS,
    SMALLEST,
    Blocks,
    Fusion,
    LearnedFusion,
    PixelwiseFusion,
)
from ensemble.regression import regression
from ensemble.sampling import PerPixel, PixelSample, SamplePixels, draw_pixels, take
from ensemble.soft_score import LogScores, Pixels
from ensemble.strategies.means import MIN_LOG_ODDS_GAP, sum_members
from ensemble.strategies.votes import ONE_VS_REST
from ensemble.strategies.weighted_mean import fit_pixel_decision
from evaluation.bias_search import Biases
from evaluation.core.seeds import Seed
from evaluation.core.types import Array, Map, Maps
from evaluation.run_metric import SetMetric

NO_CLASS = -1
L2 = 1e-6
"""Keeps the slope of a calibration finite where a specialist is always right."""

PerClass = Float[np.ndarray, "class"]
Mask = Bool[np.ndarray, "pixel"]


def gate(
    classes: int,
    ignore: int | None,
    kinds: tuple[str, ...],
    metric: SetMetric | None = None,
    *,
    objective: Objective = "metric",
    sample_pixels: SamplePixels = 100_000,
    floor: Annotated[float, Field(ge=SMALLEST, lt=0.5)] = 1e-6,
    seed: Seed = 0,
) -> LearnedFusion:
    """Average members of all classes, but leave a class to a specialist that predicts it better.

    Each specialist's probability is calibrated by a slope and an offset of its log-odds (Platt
    scaling). Where its IoU of the class, at a threshold of one half, is higher than that of the
    generalists' mean, its probability replaces theirs; of several specialists the best is taken.
    Then the classes are renormalised. Without specialists it is `mean` of the members.

    By default decisions have owners of their own, and a factor per class: class after class, the
    owner and then the factor of the highest score. The ignored class is never decided then.

    Args:
        ignore: the class whose pixels are left out of the fit; never left to a specialist.
        kinds: one per member: `one_vs_rest` is a set of specialists.
        metric: what decisions are fitted by; by default the mean IoU of all classes but the ignored
            one.
        objective: what decisions are fitted by, `metric` or `log_loss`; see `ensemble.decision`.
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
        >>> kinds = ("probabilities", "one_vs_rest")
        >>> strategy = gate(2, None, kinds, objective="log_loss")
        >>> strategy.fit([TrainingBlock(np.stack([general, special]), target)]).owner_member
        array([1, 1])
    """

    def fit(blocks: Blocks) -> Fusion:
        sample = draw_pixels(
            blocks, classes=classes, ignore=ignore, pixels=sample_pixels, seed=seed
        )
        clipped = max(floor, MIN_LOG_ODDS_GAP)
        if objective == "log_loss":
            return _fit(sample, kinds, clipped)

        def learner(prepared: DecisionSample) -> Learner:
            return _GateLearner(prepared, kinds, clipped)

        return fit_pixel_decision(sample, learner, kinds, metric, ignore)

    return LearnedFusion(fit)


@dataclass(frozen=True)
class Gate(PixelwiseFusion):
    """The mean of the generalists, with classes that are left to specialists.

    Args:
        owner_member: the member that a class is left to, or -1.
        slope: factor of its log-odds.
        offset: added to them.
        factors: of the scores of each class; none where there is no decision by a metric.
        floor: its probabilities are clipped to `floor` and 1 - `floor`.
    """

    owner_member: Integer[np.ndarray, "class"]
    slope: PerClass
    offset: PerClass
    kinds: tuple[str, ...]
    floor: float
    factors: tuple[float, ...] = ()

    def _scores(self, maps: Maps) -> Map:
        scores = _mean(maps, self.kinds)
        for label in np.flatnonzero(self.owner_member != NO_CLASS):
            odds = _log_odds(maps[self.owner_member[label], :, label], self.floor)
            scores[:, label] = expit(odds * self.slope[label] + self.offset[label])
        if self.factors:
            scores *= np.array(self.factors, np.float32)[:, None, None]
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
    for label in np.unique(sample.target):
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


class _GateLearner(Learner):
    """A fusion as parameters; few enough to search on hard counts.

    Nothing pulls them anywhere, so that a gain must be certain.
    """

    strengths = (0.0,)
    margin = 2.0

    def __init__(self, prepared: DecisionSample, kinds: tuple[str, ...], floor: float) -> None:
        super().__init__(prepared.pixels, prepared.labels)
        self.prepared, self.kinds, self.floor = prepared, kinds, floor
        self.maps = prepared.sample.maps.transpose(1, 0, 2)[..., None, None]

    def start(self, rows: Pixels) -> Gate:
        """Return the owners by the IoU of each class by itself."""
        return _fit(take(self.prepared.sample, rows), self.kinds, self.floor)

    def improve(self, rows: Pixels, start: Gate, anchor: Gate, strength: float) -> Gate:
        """Take the owner of each class that scores highest, class after class."""
        sample, pixels = take(self.prepared.sample, rows), self.pixels.take(rows)
        best, best_score = start, pixels.score_of(self.logits(start, rows))
        for label in np.unique(sample.target):
            for changed in self._owners(best, sample, int(label)):
                score = pixels.score_of(self.logits(changed, rows))
                if score > best_score:
                    best, best_score = changed, score
        return best

    def _owners(self, gate: Gate, sample: PixelSample, label: int) -> Iterator[Gate]:
        """Yield the gate with each owner of a class: the mean, then every specialist."""
        true = sample.target == label
        specialists = np.flatnonzero(np.array(self.kinds) == ONE_VS_REST)
        for member in (NO_CLASS, *specialists):
            owner, slope, offset = gate.owner_member.copy(), gate.slope.copy(), gate.offset.copy()
            owner[label] = member
            if member != NO_CLASS:
                odds = _log_odds(sample.maps[:, member, label], self.floor).astype(np.float64)
                slope[label], offset[label] = _platt_scaling(odds, true, sample.weight)
            yield replace(gate, owner_member=owner, slope=slope, offset=offset)

    def logits(self, parameters: Gate, rows: Pixels) -> LogScores:
        """Return logarithms of the scores."""
        scores = parameters(self.maps[:, rows])[:, self.prepared.scored, 0, 0].T
        logits: LogScores = np.log(np.maximum(scores, np.float32(SMALLEST)))
        return logits

    def with_bias(self, parameters: Gate, bias: Biases) -> Gate:
        """Multiply the factors; the ignored class gets 0."""
        factors = np.zeros(len(parameters.owner_member))
        factors[self.prepared.scored] = np.exp(bias)
        return replace(parameters, factors=tuple(factors.tolist()))

    def fusion(self, parameters: Gate) -> Fusion:
        """Return the parameters, which are the fusion."""
        return parameters
