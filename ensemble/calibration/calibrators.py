"""Isotonic regression: whatever rising curve fits, for each class against the others.

Temperature scaling: all confidences up or down by one number.

Vector scaling: a temperature and a bias for each class.
"""

from dataclasses import dataclass
from typing import Annotated

import numpy as np
from jaxtyping import Bool, Float
from pydantic import Field
from scipy.optimize import minimize, minimize_scalar
from scipy.special import log_softmax

from ensemble.calibration.scored_classes import (
    Calibrator,
    Labelled,
    Odds,
    Shares,
    calibrated_by,
    condition_on_scored,
)
from ensemble.fusion import SMALLEST, Fusion, by_pieces
from ensemble.sampling import PerPixel, PixelSample
from evaluation.core.types import Map, Maps

Knots = Float[np.ndarray, "knot"]


def isotonic(
    ignore: int | None, *, floor: Annotated[float, Field(ge=SMALLEST, lt=1)] = 1e-6
) -> Calibrator:
    """Replace each class's probability by how often it was right, then renormalise.

    It assumes nothing but that more is more, and needs more target than two numbers a class do.

    Args:
        ignore: the class that is not scored.
        floor: no class gets less than this, since a curve may start at 0.

    Source: Zadrozny and Elkan, "Transforming Classifier Scores into Accurate Multiclass Probability
    Estimates", KDD 2002.
    """

    def learn(drawn: PixelSample) -> Fusion:
        from sklearn.isotonic import IsotonicRegression

        scored, said, target = condition_on_scored(drawn, ignore)
        inputs, outputs = [], []
        for place in range(len(scored)):
            curve = IsotonicRegression(y_min=0, y_max=1, out_of_bounds="clip")
            curve.fit(said[:, place], target == place, drawn.weight)
            inputs.append(curve.X_thresholds_)
            outputs.append(curve.y_thresholds_)
        ends = np.cumsum([len(part) for part in inputs])
        return Isotonic(np.concatenate(inputs), np.concatenate(outputs), ends, scored, floor)

    return learn


@dataclass(frozen=True)
class Isotonic:
    """A curve of straight pieces for each scored class.

    Args:
        inputs: where the pieces meet, one class after the other.
        outputs: the curve's height there.
        ends: behind each scored class's last knot.
        scored: the labels of the scored classes.
        floor: see `isotonic`.
    """

    inputs: Knots
    outputs: Knots
    ends: Labelled
    scored: Labelled
    floor: float

    def __call__(self, maps: Maps) -> Map:
        """Calibrate."""
        return calibrated_by(self._odds, maps, self.scored)

    def _odds(self, said: Odds) -> Odds:
        curves = zip(
            np.split(self.inputs, self.ends[:-1]),
            np.split(self.outputs, self.ends[:-1]),
            strict=True,
        )
        for place, (inputs, outputs) in enumerate(curves):
            said[:, place] = np.interp(said[:, place], inputs, outputs)
        np.maximum(said, np.float32(self.floor), out=said)
        return said


WIDEST = 4.0
"""Temperatures are looked for between exp(-4) and exp(4)."""


def temperature(
    ignore: int | None, *, floor: Annotated[float, Field(ge=SMALLEST, lt=1)] = 1e-6
) -> Calibrator:
    """Raise probabilities to the power 1/T, with the T that makes the target most probable.

    No prediction changes, only how sure it is.

    Args:
        ignore: the class that is not scored.
        floor: probabilities below this are raised to it before the logarithm, when T is learned.

    Source: Guo et al., "On Calibration of Modern Neural Networks", ICML 2017.
    """

    def learn(drawn: PixelSample) -> Fusion:
        _, said, target = condition_on_scored(drawn, ignore)
        logs = np.log(np.maximum(said, floor))
        places = np.arange(len(target))

        def loss(coldness: float) -> float:
            told = log_softmax(logs * np.exp(coldness), axis=1)[places, target]
            return -float(drawn.weight @ told)

        found = minimize_scalar(loss, bounds=(-WIDEST, WIDEST), method="bounded")
        return Temperature(float(np.exp(-found.x)))

    return learn


@dataclass(frozen=True)
class Temperature:
    """A power 1 / `temperature` of one member's probabilities."""

    temperature: float

    def __call__(self, maps: Maps) -> Map:
        """Calibrate."""
        return by_pieces(maps, self._scores)

    def _scores(self, maps: Maps) -> Map:
        # What is 0 stays 0.
        with np.errstate(divide="ignore"):
            logs: Map = np.log(maps[0])
        logs -= logs.max(axis=1, keepdims=True)
        logs *= np.float32(1 / self.temperature)
        np.exp(logs, out=logs)
        return logs


PULL = 1e-4
"""Half of this times the squared distance from "nothing changes" is added to the loss, so that a
class which is never or always right gets a finite number."""

Factors = Float[np.ndarray, "scored"]
Both = Float[np.ndarray, "both"]


def vector(
    ignore: int | None, *, floor: Annotated[float, Field(ge=SMALLEST, lt=1)] = 1e-6
) -> Calibrator:
    """Scale and shift the log-probability of each class so that the target is most probable.

    Unlike a temperature it can take back a class that is named too often.

    Args:
        ignore: the class that is not scored.
        floor: probabilities below this are raised to it before the logarithm.

    Source: Guo et al., "On Calibration of Modern Neural Networks", ICML 2017, as vector scaling.
    """

    def learn(drawn: PixelSample) -> Fusion:
        scored, said, target = condition_on_scored(drawn, ignore)
        logs = np.log(np.maximum(said, floor))
        true = target[:, None] == np.arange(len(scored))
        scale, bias = _best(logs, true, drawn.weight)
        return Vector(scale.astype(np.float32), bias.astype(np.float32), scored, floor)

    return learn


@dataclass(frozen=True)
class Vector:
    """A softmax over scaled and shifted log-probabilities of one member.

    Args:
        scale: factor of each scored class.
        bias: what is added for each scored class.
        scored: the labels of the scored classes.
        floor: see `vector`.
    """

    scale: Factors
    bias: Factors
    scored: Labelled
    floor: float

    def __call__(self, maps: Maps) -> Map:
        """Calibrate."""
        return calibrated_by(self._odds, maps, self.scored)

    def _odds(self, said: Odds) -> Odds:
        logs: Odds = np.log(np.maximum(said, np.float32(self.floor), out=said), out=said)
        logs *= self.scale[:, None, None]
        logs += self.bias[:, None, None]
        logs -= logs.max(axis=1, keepdims=True)
        np.exp(logs, out=logs)
        return logs


def _best(
    logs: Shares, true: Bool[np.ndarray, "pixel scored"], weight: PerPixel
) -> tuple[Factors, Factors]:
    count = logs.shape[1]
    start = np.repeat([1.0, 0.0], count)

    def loss(found: Both) -> tuple[float, Both]:
        told = log_softmax(logs * found[:count] + found[count:], axis=1)
        excess = (np.exp(told) - true) * weight[:, None]
        slope = np.concatenate([(excess * logs).sum(axis=0), excess.sum(axis=0)])
        away = found - start
        value = -float(weight @ told[true]) + PULL / 2 * float(away @ away)
        return value, slope + PULL * away

    best = minimize(loss, start, jac=True, method="L-BFGS-B").x
    return best[:count], best[count:]
