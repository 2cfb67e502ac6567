"""Scores of the classes become probabilities, and nobody's label changes by it."""

import numpy as np

from evaluation.core.arrays import argmax
from evaluation.core.types import Labels, Map

CLASS_AXIS = 1


def renormalise(scores: Map) -> Map:
    """Divide by the sum over the classes, in place; each pixel's highest class stays the highest.

    Args:
        scores: not negative, float32; no pixel's are all zero.
    """
    winner = argmax(scores)
    scores /= scores.sum(axis=CLASS_AXIS, keepdims=True)
    return _won_by(winner, scores)


def _won_by(winner: Labels, maps: Map) -> Map:
    """Undo ties that rounding has made, in place: a division may merge two neighbouring floats."""
    tied = (argmax(maps) != winner)[:, None]
    if tied.any():
        winner = winner[:, None].astype(np.intp)
        value = np.take_along_axis(maps, winner, CLASS_AXIS)
        raised = np.where(tied, np.nextafter(value, np.float32(np.inf)), value)
        np.put_along_axis(maps, winner, raised, CLASS_AXIS)
    return maps
