"""Isotonic regression: whatever rising curve fits, for each class against the others."""

from dataclasses import dataclass
from typing import Annotated

import numpy as np
from jaxtyping import Float
from pydantic import Field

from ensemble.calibration.scored import (
    Calibrator,
    Labelled,
    Odds,
    among_scored,
    calibrated_by,
)
from ensemble.fusion import SMALLEST, Fusion
from ensemble.sample import PixelSample
from evaluation.ground.arrays import Map, Maps

Knots = Float[np.ndarray, "knot"]


def isotonic(
    ignore: int | None, *, floor: Annotated[float, Field(ge=SMALLEST, lt=1)] = 1e-6
) -> Calibrator:
    """Replace each class's probability by how often it was right, then renormalise.

    It assumes nothing but that more is more, and needs more truth than two numbers a class do.

    Args:
        ignore: the class that is not scored.
        floor: no class gets less than this, since a curve may start at 0.

    Source: Zadrozny and Elkan, "Transforming Classifier Scores into Accurate Multiclass Probability
    Estimates", KDD 2002.
    """

    def learn(drawn: PixelSample) -> Fusion:
        from sklearn.isotonic import IsotonicRegression

        scored, said, truth = among_scored(drawn, ignore)
        inputs, outputs = [], []
        for place in range(len(scored)):
            curve = IsotonicRegression(y_min=0, y_max=1, out_of_bounds="clip")
            curve.fit(said[:, place], truth == place, drawn.weight)
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
