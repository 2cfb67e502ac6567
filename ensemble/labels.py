"""The most probable class."""

import numpy as np
from jaxtyping import Float, UInt8

Scores = Float[np.ndarray, "class *pixel"]
Labels = UInt8[np.ndarray, "*pixel"]


def highest(scores: Scores) -> Labels:
    """Return the class with the highest score, of equal ones the lowest.

    It is what `argmax` gives, in a fraction of the time, for that goes pixel by pixel.
    """
    label, top = np.zeros(scores.shape[1:], np.uint8), scores[0].copy()
    for place, one in enumerate(scores[1:], start=1):
        # The classes go up, so the last that was higher is the maximum; masked copies are slow.
        np.maximum(label, (one > top) * np.uint8(place), out=label)
        np.maximum(top, one, out=top)
    return label
