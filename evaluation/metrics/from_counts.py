"""Metrics of confusion counts, over the pixels whose target is not the ignored class.

The ignored class predicted on such a pixel is a miss of the target class. A class for which a
metric is not defined (absent, or never predicted) is left out of its mean.
"""

from collections.abc import Callable

import numpy as np

from evaluation.core.types import Array
from evaluation.iou import PerClass, intersection_and_union, mean_over_present, safe_divide
from evaluation.metrics.metric_base import Metric, MetricInput, MetricValue

Formula = Callable[[Array, Array, Array], PerClass]
"""A value per class from its hits, target pixels and predicted pixels."""


def iou() -> Metric:
    """Intersection over union, the mean over the classes that occur: the protocol `masked`.

    References:
        Jaccard, "The Distribution of the Flora in the Alpine Zone", New Phytologist 1912.
    """
    return _per_class(lambda hits, true, predicted: safe_divide(hits, true + predicted - hits))


def dice() -> Metric:
    """Twice the intersection over the sum of the two areas, the mean over classes that occur.

    References:
        Dice, "Measures of the Amount of Ecologic Association Between Species", Ecology 1945.
    """
    return _per_class(lambda hits, true, predicted: safe_divide(2 * hits, true + predicted))


def precision() -> Metric:
    """Share of a class's predictions that are correct, averaged over the predicted classes.

    References:
        `sklearn.metrics.precision_score`, class by class.
    """
    return _per_class(lambda hits, _, predicted: safe_divide(hits, predicted))


def recall() -> Metric:
    """Share of a class's pixels that were predicted as it; the mean over classes is mean accuracy.

    References:
        `sklearn.metrics.recall_score`, class by class.
    """
    return _per_class(lambda hits, true, _: safe_divide(hits, true))


def mean_accuracy() -> Metric:
    """Recall, averaged over the classes of the target.

    References:
        Long et al., "Fully Convolutional Networks for Semantic Segmentation", CVPR 2015, section 5.
    """
    return _overall(
        lambda counts: mean_over_present(safe_divide(_hits(counts), counts.sum(axis=-1)))
    )


def pixel_accuracy() -> Metric:
    """Share of pixels that are correct.

    References:
        Long et al. 2015, as for `mean_accuracy`.
    """
    return _overall(
        lambda counts: safe_divide(_hits(counts).sum(axis=-1), counts.sum(axis=(-2, -1)))
    )


def frequency_weighted_iou() -> Metric:
    """IoU of the classes, weighted by their pixels in the target.

    References:
        Long et al. 2015, as for `mean_accuracy`.
    """

    def value(counts: Array) -> Array:
        hits, union = intersection_and_union(counts, None)
        true = counts.sum(axis=-1)
        weighted = true * np.nan_to_num(safe_divide(hits, union))
        return safe_divide(np.asarray(weighted.sum(axis=-1)), np.asarray(true.sum(axis=-1)))

    return _overall(value)


def cohens_kappa() -> Metric:
    """Agreement of prediction and target beyond chance, given how often each has a class.

    NaN if both have only one class.

    References:
        Cohen, "A Coefficient of Agreement for Nominal Scales", Educational and Psychological
        Measurement 1960; `sklearn.metrics.cohen_kappa_score`.
    """

    def value(counts: Array) -> Array:
        pixels = counts.sum(axis=(-2, -1))
        right = safe_divide(np.asarray(_hits(counts).sum(axis=-1)), pixels)
        both = counts.sum(axis=-1) * counts.sum(axis=-2).astype(np.float64)
        chance = safe_divide(np.asarray(both.sum(axis=-1)), np.square(pixels.astype(np.float64)))
        return safe_divide(np.asarray(right - chance), np.asarray(1 - chance))

    return _overall(value)


def _scored_counts(images: MetricInput) -> Array:
    counts = images.counts.copy()
    if images.ignore is not None:
        counts[:, images.ignore] = 0
    return counts


def _hits(counts: Array) -> PerClass:
    return np.diagonal(counts, axis1=-2, axis2=-1).astype(np.float64)


def _per_class(formula: Formula) -> Metric:
    def accumulate(images: MetricInput) -> Array:
        # The ignored class has no target left; without its predictions it has no value either.
        counts = _scored_counts(images)
        hits, true, predicted = _hits(counts), counts.sum(axis=-1), counts.sum(axis=-2)
        if images.ignore is not None:
            predicted[:, images.ignore] = 0
        return np.stack([hits, true, predicted], axis=1)

    def compute(sums: Array) -> MetricValue:
        values = formula(*np.moveaxis(sums, -2, 0))
        return MetricValue(mean_over_present(values), values)

    return Metric("counts", accumulate, compute)


def _overall(formula: Callable[[Array], Array]) -> Metric:
    return Metric("counts", _scored_counts, lambda sums: MetricValue(np.asarray(formula(sums))))
