"""A few of many, evenly spaced from the first to the last."""

import numpy as np


def spaced(length: int, count: int) -> list[int]:
    """Return up to `count` places below `length`, evenly spaced, in order, none twice.

    Args:
        length: how many places there are.
        count: how many to take; the first and the last are among two or more.
    """
    places = np.linspace(0, length - 1, min(count, length))
    return [int(place) for place in places]
