"""The form of a metric: terms per image that add up, and values of their sums."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Float

from evaluation.confusion import confusion
from evaluation.core.types import Array, Counts, Labels, Map
from evaluation.iou import PerClass

Requires = Literal["counts", "labels", "maps"]


@dataclass(frozen=True)
class MetricValue:
    """Values of one metric on sets of images.

    Args:
        overall: of each set; NaN if it has none.
        per_class: of each set and class; NaN if a class has none, None if the metric has no
            values per class.
        bins: sums of a reliability diagram of each set, see `evaluation.reliability`; None if the
            metric has none.
    """

    overall: Float[np.ndarray, "*sets"]
    per_class: Float[np.ndarray, "*sets class"] | None = None
    bins: Float[np.ndarray, "*sets 3 bin"] | None = None


@dataclass(frozen=True)
class MetricInput:
    """A block of images.

    Args:
        target: class index per pixel; 255 where unlabelled.
        pred: class index per pixel.
        counts: confusion counts, one table per image.
        ignore: the ignored class, or None.
        maps: probabilities; None if there are none.
        floor: smaller probabilities are raised to it.
    """

    target: Labels
    pred: Labels
    counts: Counts
    ignore: int | None
    maps: Map | None = None
    floor: float = 1e-12

    @property
    def classes(self) -> int:
        """Number of classes."""
        return int(self.counts.shape[-1])


@dataclass(frozen=True)
class Metric:
    """A metric of predictions on images.

    Images, groups and whole sets all get their value from the sum of their images' terms, so
    images are processed block by block and memory stays flat.

    Args:
        requires: what it is computed from.
        accumulate: returns the terms of each image of a block, (image, ...).
        compute: returns the values of sets from their summed terms, (set, ...).
    """

    requires: Requires
    accumulate: Callable[[MetricInput], Array]
    compute: Callable[[Array], MetricValue]

    def measure(
        self,
        target: Labels,
        pred: Labels,
        *,
        classes: int,
        ignore: int | None = None,
        maps: Map | None = None,
    ) -> MetricValue:
        """Return the values of one set of images in memory; for the arguments see `MetricInput`.

        Raises:
            BadLabels: labels outside the classes, or shapes that differ.
        """
        counts = confusion(target, pred, classes=classes)
        terms = self.accumulate(MetricInput(target, pred, counts, ignore, maps))
        return self.compute(terms.sum(axis=0, keepdims=True))


def mean_of_images(values: PerClass) -> Array:
    """Return terms that average values over the images which have one: their sum and number."""
    known = ~np.isnan(values)
    return np.stack([np.where(known, values, 0), known.astype(np.float64)], axis=-2)
