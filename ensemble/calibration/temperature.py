"""Temperature scaling: all confidences up or down by one number."""

from dataclasses import dataclass
from typing import Annotated

import numpy as np
from pydantic import Field
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax

from ensemble.calibration.scored import Calibrator, among_scored
from ensemble.fusion import SMALLEST, Fusion, by_pieces
from ensemble.sample import PixelSample
from evaluation.ground.arrays import Map, Maps

WIDEST = 4.0
"""Temperatures are looked for between exp(-4) and exp(4)."""


def temperature(
    ignore: int | None, *, floor: Annotated[float, Field(ge=SMALLEST, lt=1)] = 1e-6
) -> Calibrator:
    """Raise probabilities to the power 1/T, with the T that makes the truth most probable.

    No guess changes, only how sure it is.

    Args:
        ignore: the class that is not scored.
        floor: probabilities below this are raised to it before the logarithm, when T is learned.

    Source: Guo et al., "On Calibration of Modern Neural Networks", ICML 2017.
    """

    def learn(drawn: PixelSample) -> Fusion:
        _, said, truth = among_scored(drawn, ignore)
        logs = np.log(np.maximum(said, floor))
        places = np.arange(len(truth))

        def loss(coldness: float) -> float:
            told = log_softmax(logs * np.exp(coldness), axis=1)[places, truth]
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
