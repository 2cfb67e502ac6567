"""Metrics of the counts, over the pixels whose target is not the ignored class.

The ignored class predicted on such a pixel is a miss of the true class. A class that a quantity is
not defined for (absent, or never predicted) is left out of its mean.
"""

from collections.abc import Callable

import numpy as np

from evaluation.core.types import Array
from evaluation.iou import (
    PerClass,
    intersection_and_union,
    mean_over_present,
    safe_divide,
)
from evaluation.metrics.metric_base import Metric, MetricInput, MetricValue

PerClassOf = Callable[[Array, Array, Array], PerClass]


def iou() -> Metric:
    """Intersection over union, the mean over the classes that occur: the protocol `masked`.

    Source: Jaccard, "The Distribution of the Flora in the Alpine Zone", New Phytologist 1912.
    """
    return _per_class(lambda hits, true, predicted: safe_divide(hits, true + predicted - hits))


def dice() -> Metric:
    """Twice the intersection over the sum of the two areas, the mean over classes that occur.

    Source: Dice, "Measures of the Amount of Ecologic Association Between Species", Ecology 1945.
    """
    return _per_class(lambda hits, true, predicted: safe_divide(2 * hits, true + predicted))


def precision() -> Metric:
    """Share of a class' predictions that are right, the mean over the classes that were predicted.

    Source: `sklearn.metrics.precision_score`, class by class.
    """
    return _per_class(lambda hits, _, predicted: safe_divide(hits, predicted))


def recall() -> Metric:
    """Share of a class' pixels that were found; the mean over classes is the mean accuracy.

    Source: `sklearn.metrics.recall_score`, class by class.
    """
    return _per_class(lambda hits, true, _: safe_divide(hits, true))


def mean_accuracy() -> Metric:
    """Mean over the classes of the target of the share of pixels that were found.

    Source: Long et al., "Fully Convolutional Networks for Semantic Segmentation", CVPR 2015,
    section 5.
    """
    return _overall(lambda kept: mean_over_present(safe_divide(_hits(kept), kept.sum(axis=-1))))


def pixel_accuracy() -> Metric:
    """Share of pixels that are right.

    Source: Long et al. 2015, as for `mean_accuracy`.
    """
    return _overall(lambda kept: safe_divide(_hits(kept).sum(axis=-1), kept.sum(axis=(-2, -1))))


def frequency_weighted_iou() -> Metric:
    """IoU of the classes, weighted by their pixels in the target.

    Source: Long et al. 2015, as for `mean_accuracy`.
    """

    def value(kept: Array) -> Array:
        hits, union = intersection_and_union(kept, None)
        true = kept.sum(axis=-1)
        weighted = true * np.nan_to_num(safe_divide(hits, union))
        return safe_divide(np.asarray(weighted.sum(axis=-1)), np.asarray(true.sum(axis=-1)))

    return _overall(value)


def cohens_kappa() -> Metric:
    """Agreement of prediction and target beyond what chance would give by how often they name a class.

    NaN where both name one class only.

    Source: Cohen, "A Coefficient of Agreement for Nominal Scales", Educational and Psychological
    Measurement 1960; `sklearn.metrics.cohen_kappa_score`.
    """

    def value(kept: Array) -> Array:
        pixels = kept.sum(axis=(-2, -1))
        right = safe_divide(np.asarray(_hits(kept).sum(axis=-1)), pixels)
        both = kept.sum(axis=-1) * kept.sum(axis=-2).astype(np.float64)
        chance = safe_divide(np.asarray(both.sum(axis=-1)), np.square(pixels.astype(np.float64)))
        return safe_divide(np.asarray(right - chance), np.asarray(1 - chance))

    return _overall(value)


def _kept(seen: MetricInput) -> Array:
    kept = seen.counts.copy()
    if seen.ignore is not None:
        kept[:, seen.ignore] = 0
    return kept


def _hits(kept: Array) -> PerClass:
    return np.diagonal(kept, axis1=-2, axis2=-1).astype(np.float64)


def _per_class(quantity: PerClassOf) -> Metric:
    def terms(seen: MetricInput) -> Array:
        # The ignored class has no target left; without its predictions it has no value either.
        kept = _kept(seen)
        hits, true, predicted = _hits(kept), kept.sum(axis=-1), kept.sum(axis=-2)
        if seen.ignore is not None:
            predicted[:, seen.ignore] = 0
        return np.stack([hits, true, predicted], axis=1)

    def value(sums: Array) -> MetricValue:
        found = quantity(*np.moveaxis(sums, -2, 0))
        return MetricValue(mean_over_present(found), found)

    return Metric("counts", terms, value)


def _overall(quantity: Callable[[Array], Array]) -> Metric:
    return Metric("counts", _kept, lambda sums: MetricValue(np.asarray(quantity(sums))))
