"""The calibrators: temperature scaling, vector scaling and isotonic regression."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float

from ensemble.calibration.scored_classes import (
    Calibrator,
    Odds,
    Shares,
    calibrate_scored,
    condition_on_scored,
)
from ensemble.fusion import Floor, Fusion, PixelwiseFusion, ScoredLabels
from ensemble.sampling import PerPixel, PixelSample
from evaluation.core.types import Map, Maps

MAX_LOG_TEMPERATURE = 4.0
"""Temperatures are searched between exp(-4) and exp(4)."""

PRIOR_STRENGTH = 1e-4
"""Half of this times the squared distance from the identity is added to the loss of `vector`, so
that a class which is never or always correct gets finite numbers."""

PerScored = Float[np.ndarray, "scored"]
Knots = Float[np.ndarray, "knot"]
Parameters = Float[np.ndarray, "parameter"]


def temperature(ignore: int | None, *, floor: Floor = 1e-6) -> Calibrator:
    """Raise probabilities to the power 1/T, with the T of the lowest log-loss.

    Predictions are unchanged, only their confidence changes.

    Args:
        floor: lower bound of probabilities before the logarithm, while T is fitted.

    References:
        Guo et al., "On Calibration of Modern Neural Networks", ICML 2017.

    Examples:
        A member that is certain and right three times out of four.

        >>> maps = np.tile(np.array([0.99, 0.01], np.float32), (4, 1, 1))
        >>> sample = PixelSample(maps, np.array([0, 0, 0, 1]), np.full(4, 0.25),
        ...     np.array([3, 1]), np.empty((4, 0)))
        >>> calibrate = temperature(None)(sample)
        >>> calibrate(maps[:1, :, :, None, None]).ravel().round(2)
        array([0.75, 0.25], dtype=float32)
    """

    def fit(sample: PixelSample) -> Fusion:
        from scipy.optimize import minimize_scalar
        from scipy.special import log_softmax

        _, shares, target = condition_on_scored(sample, ignore)
        logs = np.log(np.maximum(shares, floor))
        pixels = np.arange(len(target))

        def loss(coldness: float) -> float:
            log_probs = log_softmax(logs * np.exp(coldness), axis=1)[pixels, target]
            return -float(sample.weight @ log_probs)

        bounds = (-MAX_LOG_TEMPERATURE, MAX_LOG_TEMPERATURE)
        result = minimize_scalar(loss, bounds=bounds, method="bounded")
        return Temperature(float(np.exp(-result.x)))

    return fit


@dataclass(frozen=True)
class Temperature(PixelwiseFusion):
    """Probabilities of one member to the power 1 / `temperature`."""

    temperature: float

    def _scores(self, maps: Maps) -> Map:
        # What is 0 stays 0.
        with np.errstate(divide="ignore"):
            logs: Map = np.log(maps[0])
        logs -= logs.max(axis=1, keepdims=True)
        logs *= np.float32(1 / self.temperature)
        np.exp(logs, out=logs)
        return logs


def vector(ignore: int | None, *, floor: Floor = 1e-6) -> Calibrator:
    """Scale and shift the log-probability of each class for the lowest log-loss.

    Unlike a temperature it can correct a class that is predicted too often.

    Args:
        floor: lower bound of probabilities before the logarithm.

    References:
        Guo et al., "On Calibration of Modern Neural Networks", ICML 2017, as vector scaling.

    Examples:
        A member that is undecided, where the first class is right three times out of four.

        >>> maps = np.tile(np.array([0.5, 0.5], np.float32), (4, 1, 1))
        >>> sample = PixelSample(maps, np.array([0, 0, 0, 1]), np.full(4, 0.25),
        ...     np.array([3, 1]), np.empty((4, 0)))
        >>> calibrate = vector(None)(sample)
        >>> calibrate(maps[:1, :, :, None, None]).ravel().round(2)
        array([0.75, 0.25], dtype=float32)
    """

    def fit(sample: PixelSample) -> Fusion:
        scored, shares, target = condition_on_scored(sample, ignore)
        logs = np.log(np.maximum(shares, floor))
        true = target[:, None] == np.arange(len(scored))
        scale, bias = _fit_vector(logs, true, sample.weight)
        return Vector(scale.astype(np.float32), bias.astype(np.float32), scored, floor)

    return fit


@dataclass(frozen=True)
class Vector:
    """A softmax over scaled and shifted log-probabilities of one member.

    Args:
        scale: factor of each scored class.
        bias: offset of each scored class.
    """

    scale: PerScored
    bias: PerScored
    scored: ScoredLabels
    floor: float

    def __call__(self, maps: Maps) -> Map:
        """Calibrate."""
        return calibrate_scored(self._odds, maps, self.scored)

    def _odds(self, shares: Odds) -> Odds:
        logs: Odds = np.log(np.maximum(shares, np.float32(self.floor), out=shares), out=shares)
        logs *= self.scale[:, None, None]
        logs += self.bias[:, None, None]
        logs -= logs.max(axis=1, keepdims=True)
        np.exp(logs, out=logs)
        return logs


def _fit_vector(
    logs: Shares, true: Bool[np.ndarray, "pixel scored"], weight: PerPixel
) -> tuple[PerScored, PerScored]:
    from scipy.optimize import minimize
    from scipy.special import log_softmax

    count = logs.shape[1]
    identity = np.repeat([1.0, 0.0], count)

    def loss(parameters: Parameters) -> tuple[float, Parameters]:
        log_probs = log_softmax(logs * parameters[:count] + parameters[count:], axis=1)
        excess = (np.exp(log_probs) - true) * weight[:, None]
        gradient = np.concatenate([(excess * logs).sum(axis=0), excess.sum(axis=0)])
        away = parameters - identity
        value = -float(weight @ log_probs[true]) + PRIOR_STRENGTH / 2 * float(away @ away)
        return value, gradient + PRIOR_STRENGTH * away

    best = minimize(loss, identity, jac=True, method="L-BFGS-B").x
    return best[:count], best[count:]


def isotonic(ignore: int | None, *, floor: Floor = 1e-6) -> Calibrator:
    """Replace each class's probability by its observed frequency (monotone), then renormalise.

    It assumes only that the frequency rises with the probability, and needs more labelled pixels
    than two numbers per class do.

    Args:
        floor: lower bound of the result, since a curve may start at 0.

    References:
        Zadrozny and Elkan, "Transforming Classifier Scores into Accurate Multiclass Probability
        Estimates", KDD 2002.

    Examples:
        A member that is certain and right three times out of four.

        >>> maps = np.tile(np.array([0.99, 0.01], np.float32), (4, 1, 1))
        >>> sample = PixelSample(maps, np.array([0, 0, 0, 1]), np.full(4, 0.25),
        ...     np.array([3, 1]), np.empty((4, 0)))
        >>> calibrate = isotonic(None)(sample)
        >>> calibrate(maps[:1, :, :, None, None]).ravel().round(2)
        array([0.75, 0.25], dtype=float32)
    """

    def fit(sample: PixelSample) -> Fusion:
        from sklearn.isotonic import IsotonicRegression

        scored, shares, target = condition_on_scored(sample, ignore)
        inputs, outputs = [], []
        for index in range(len(scored)):
            curve = IsotonicRegression(y_min=0, y_max=1, out_of_bounds="clip")
            curve.fit(shares[:, index], target == index, sample.weight)
            inputs.append(curve.X_thresholds_)
            outputs.append(curve.y_thresholds_)
        ends = np.cumsum([len(part) for part in inputs])
        return Isotonic(np.concatenate(inputs), np.concatenate(outputs), ends, scored, floor)

    return fit


@dataclass(frozen=True)
class Isotonic:
    """A piecewise linear curve for each scored class.

    Args:
        inputs: positions of the knots, one class after the other.
        outputs: values of the curve there.
        ends: index after each scored class's last knot.
    """

    inputs: Knots
    outputs: Knots
    ends: ScoredLabels
    scored: ScoredLabels
    floor: float

    def __call__(self, maps: Maps) -> Map:
        """Calibrate."""
        return calibrate_scored(self._odds, maps, self.scored)

    def _odds(self, shares: Odds) -> Odds:
        curves = zip(
            np.split(self.inputs, self.ends[:-1]),
            np.split(self.outputs, self.ends[:-1]),
            strict=True,
        )
        for index, (inputs, outputs) in enumerate(curves):
            shares[:, index] = np.interp(shares[:, index], inputs, outputs)
        np.maximum(shares, np.float32(self.floor), out=shares)
        return shares
