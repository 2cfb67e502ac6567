"""Calibrators: probabilities into such that are right as often as they say.

A factory gives what learns one from a sample of pixels; the result is a fusion of a single member.
Where a class is not scored nothing is known about it, so it is left out of what is learned.
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
