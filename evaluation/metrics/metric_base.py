"""What a metric is: terms of each image that add up, and values of their sums."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Float, Num

from evaluation.core.types import (
    Array,
    Counts,
    Labels,
    Map,
)
from evaluation.iou import PerClass

Requires = Literal["counts", "labels", "maps"]
Terms = Num[np.ndarray, "*sets"]
"""Numbers that add up over images; the axes after those of the sets are the metric's own."""


@dataclass(frozen=True)
class MetricValue:
    """Values of one metric on sets of images.

    Args:
        overall: of each set; NaN where it has none.
        per_class: of each set and class; NaN where a class has none, None where no class can.
        bins: for a reliability diagram, of each set: pixels, their confidences added up, and how
            many were right, by bins of equal width; None where the metric has none.
    """

    overall: Float[np.ndarray, "*sets"]
    per_class: Float[np.ndarray, "*sets class"] | None = None
    bins: Float[np.ndarray, "*sets 3 bin"] | None = None


@dataclass(frozen=True)
class MetricInput:
    """A block of images as metrics see it.

    Args:
        target: class index per pixel; 255 where the annotators gave none.
        pred: class index per pixel.
        counts: a table an image.
        ignore: the class that is not scored, or None.
        maps: probabilities; None where there are none.
        floor: probabilities below this are taken for it.
    """

    target: Labels
    pred: Labels
    counts: Counts
    ignore: int | None
    maps: Map | None = None
    floor: float = 1e-12

    @property
    def classes(self) -> int:
        """How many classes there are."""
        return int(self.counts.shape[-1])


@dataclass(frozen=True)
class Metric:
    """A quantity of predictions on images.

    Images, groups and whole sets are all valued by the sums of their images' terms, so blocks
    of images come one after the other and memory stays flat.

    Args:
        takes: what it looks at.
        terms: of each image of a block, (image, ...).
        value: of sets by their summed terms, (set, ...).
    """

    takes: Requires
    terms: Callable[[MetricInput], Array]
    value: Callable[[Array], MetricValue]


def mean_of_images(values: PerClass) -> Array:
    """Return terms that average values over the images which have one: their sum and number."""
    known = ~np.isnan(values)
    return np.stack([np.where(known, values, 0), known.astype(np.float64)], axis=-2)
