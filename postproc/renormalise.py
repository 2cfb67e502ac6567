"""Turn class scores into probabilities without changing any pixel's highest class."""

import numpy as np

from evaluation.core.arrays import argmax
from evaluation.core.types import Map

CLASS_AXIS = 1


def renormalise(scores: Map) -> Map:
    """Divide by the sum over classes, in place; the highest class of each pixel is unchanged.

    A division may make two neighbouring floats equal; such ties are undone.

    Args:
        scores: non-negative, float32; at least one class of every pixel is above 0.
    """
    winner = argmax(scores)
    scores /= scores.sum(axis=CLASS_AXIS, keepdims=True)
    tied = (argmax(scores) != winner)[:, None]
    if tied.any():
        index = winner[:, None].astype(np.intp)
        value = np.take_along_axis(scores, index, CLASS_AXIS)
        raised = np.where(tied, np.nextafter(value, np.float32(np.inf)), value)
        np.put_along_axis(scores, index, raised, CLASS_AXIS)
    return scores
