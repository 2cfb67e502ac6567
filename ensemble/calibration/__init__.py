"""Calibrators: map probabilities to ones that match the observed frequencies.

A factory returns a function that fits on a sample of pixels and returns a fusion of a single
member. The ignored class is left out of the fit, since nothing is known about it.
"""

from evaluation.core.specs import Table

CALIBRATORS = Table(
    "calibrator",
    {
        "isotonic": "ensemble.calibration.calibrators:isotonic",
        "temperature": "ensemble.calibration.calibrators:temperature",
        "vector": "ensemble.calibration.calibrators:vector",
    },
)
