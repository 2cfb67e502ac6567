"""Vector scaling: a temperature and a bias for each class."""

from dataclasses import dataclass
from typing import Annotated

import numpy as np
from jaxtyping import Bool, Float
from pydantic import Field
from scipy.optimize import minimize
from scipy.special import log_softmax

from ensemble.calibration.scored import (
    Calibrator,
    Labelled,
    Odds,
    Shares,
    among_scored,
    calibrated_by,
)
from ensemble.fusion import SMALLEST, Fusion
from ensemble.sample import PerPixel, PixelSample
from evaluation.ground.arrays import Map, Maps

PULL = 1e-4
"""Half of this times the squared distance from "nothing changes" is added to the loss, so that a
class which is never or always right gets a finite number."""

Factors = Float[np.ndarray, "scored"]
Both = Float[np.ndarray, "both"]


def vector(
    ignore: int | None, *, floor: Annotated[float, Field(ge=SMALLEST, lt=1)] = 1e-6
) -> Calibrator:
    """Scale and shift the log-probability of each class so that the truth is most probable.

    Unlike a temperature it can take back a class that is named too often.

    Args:
        ignore: the class that is not scored.
        floor: probabilities below this are raised to it before the logarithm.

    Source: Guo et al., "On Calibration of Modern Neural Networks", ICML 2017, as vector scaling.
    """

    def learn(drawn: PixelSample) -> Fusion:
        scored, said, truth = among_scored(drawn, ignore)
        logs = np.log(np.maximum(said, floor))
        true = truth[:, None] == np.arange(len(scored))
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
