"""What maps say about the scored pixels of a picture, as if the ignored class did not exist."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Integer

from evaluation.ground.arrays import Array
from evaluation.ground.classes import UNLABELLED
from evaluation.metrics.measure import Measured, Metric, Seen

Said = Float[np.ndarray, "pixel scored_class"]
True_ = Integer[np.ndarray, " pixel"]


@dataclass(frozen=True)
class Pixels:
    """The scored pixels of one picture.

    Args:
        said: probabilities of the scored classes, which sum to 1.
        true: index of the true class among the scored.
        scored: the labels of the scored classes.
        classes: how many classes there are, the ignored one included.
        floor: what logarithms go down to.
    """

    said: Said
    true: True_
    scored: tuple[int, ...]
    classes: int
    floor: float


def of_pixels(measured: Callable[[Pixels], Array], value: Callable[[Array], Measured]) -> Metric:
    """Make a metric of the scored pixels' probabilities.

    Args:
        measured: gives a picture's terms.
        value: of their sums.
    """

    def terms(seen: Seen) -> Array:
        return np.stack([measured(_pixels(seen, place)) for place in range(len(seen.truth))])

    return Metric("maps", terms, value)


def _pixels(seen: Seen, place: int) -> Pixels:
    assert seen.maps is not None
    scored = tuple(label for label in range(seen.classes) if label != seen.ignore)
    truth = seen.truth[place]
    kept = (truth != UNLABELLED) & np.isin(truth, scored)
    said = np.moveaxis(seen.maps[place], 0, -1)[kept][:, scored].astype(np.float64)
    total = said.sum(axis=1, keepdims=True)
    even = np.full_like(said, 1 / len(scored))
    true = np.searchsorted(scored, truth[kept])
    shared = np.divide(said, total, out=even, where=total > 0)
    return Pixels(shared, true, scored, seen.classes, seen.floor)


def spread(values: Array, pixels: Pixels) -> Array:
    """Put values of the scored classes, on the last axis, at the places of their labels."""
    found = np.zeros((*values.shape[:-1], pixels.classes))
    found[..., list(pixels.scored)] = values
    return found
