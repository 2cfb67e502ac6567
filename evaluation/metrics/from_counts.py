"""Metrics of confusion counts, over the pixels whose target is not the ignored class.

The ignored class predicted on such a pixel is a miss of the target class. A class for which a
metric is not defined (absent, or never predicted) is left out of its mean.
"""

from collections.abc import Callable

import numpy as np
from jaxtyping import Bool

from evaluation.core.types import Array
from evaluation.iou import (
    PerClass,
    dice_of,
    intersection_and_union,
    mean_over_present,
    overlaps,
    precision_of,
    recall_of,
    safe_divide,
)
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
    return _per_class(dice_of)


def precision() -> Metric:
    """Share of a class's predictions that are correct, the mean over the classes that occur.

    0 for a class of the target that is never predicted: as the protocol of that name.

    References:
        `sklearn.metrics.precision_score(zero_division=0)`, class by class.
    """
    return _per_class(precision_of)


def recall() -> Metric:
    """Share of a class's pixels that were predicted as it, the mean over the classes that occur.

    0 for a class that is predicted but not in the target, which `mean_accuracy` leaves out: as the
    protocol of that name.

    References:
        `sklearn.metrics.recall_score(zero_division=0)`, class by class.
    """
    return _per_class(recall_of)


def specificity() -> Metric:
    """Share of the pixels of other classes that a class is not predicted on; over those that occur.

    True negatives / (true negatives + false positives), one class against the rest. NaN for a class
    that is in neither target nor prediction, whose value would always be 1, and for one that fills
    the target.

    References:
        `MulticlassSpecificity`, torchmetrics 1.9; Yerushalmy, "Statistical Problems in Assessing
        Methods of Medical Diagnosis", Public Health Reports 1947.

    Examples:
        >>> target = np.array([[[0, 0, 0, 1, 1]]], np.uint8)
        >>> pred = np.array([[[0, 0, 1, 1, 0]]], np.uint8)
        >>> specificity().measure(target, pred, classes=2).per_class.round(3)
        array([[0.5  , 0.667]])
    """

    def formula(hits: PerClass, true: PerClass, predicted: PerClass) -> PerClass:
        others = true.sum(axis=-1, keepdims=True) - true
        values = safe_divide(others - (predicted - hits), others)
        return np.where(true + predicted > 0, values, np.nan)

    return _per_class(formula)


def mcc() -> Metric:
    """Matthews correlation coefficient, -1 to 1: of a class against the rest, and of all classes.

    The overall value is the coefficient of the whole table, not the mean of the classes'. 0 where
    only one of target and prediction is constant, or both are and differ; NaN where both are and
    agree, since there is nothing to correlate.

    References:
        Matthews, "Comparison of the Predicted and Observed Secondary Structure of T4 Phage
        Lysozyme", Biochimica et Biophysica Acta 1975; for several classes Gorodkin, "Comparing Two
        K-Category Assignments by a K-Category Correlation Coefficient", Computational Biology and
        Chemistry 2004; `sklearn.metrics.matthews_corrcoef`, which gives 0 for NaN.

    Examples:
        >>> target = np.array([[[0, 0, 0, 1, 1]]], np.uint8)
        >>> pred = np.array([[[0, 0, 1, 1, 0]]], np.uint8)
        >>> mcc().measure(target, pred, classes=2).overall.round(3)
        array([0.167])
    """

    def compute(sums: Array) -> MetricValue:
        hits, true, predicted = np.moveaxis(sums.astype(np.float64), -2, 0)
        every = true.sum(axis=-1, keepdims=True)
        per_class = _correlation(
            hits * every - true * predicted,
            true * (every - true),
            predicted * (every - predicted),
            same=(hits == true) & (hits == predicted),
        )
        pixels, of_ignored = every[..., 0], every[..., 0] - predicted.sum(axis=-1)
        square = np.square(pixels)
        overall = _correlation(
            hits.sum(axis=-1) * pixels - (true * predicted).sum(axis=-1),
            square - np.square(true).sum(axis=-1),
            square - np.square(predicted).sum(axis=-1) - np.square(of_ignored),
            same=hits.sum(axis=-1) == pixels,
        )
        return MetricValue(overall, per_class)

    return Metric("counts", _overlap_terms, compute)


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


def _overlap_terms(images: MetricInput) -> Array:
    """Return hits, target pixels and predicted pixels of each class, (image, 3, class).

    The ignored class has no target left; without its predictions it has no value either.
    """
    hits, true, predicted = overlaps(images.counts, images.ignore)
    if images.ignore is not None:
        predicted[:, images.ignore] = 0
    return np.stack([hits, true, predicted], axis=1)


def _per_class(formula: Formula) -> Metric:
    def compute(sums: Array) -> MetricValue:
        values = formula(*np.moveaxis(sums, -2, 0))
        return MetricValue(mean_over_present(values), values)

    return Metric("counts", _overlap_terms, compute)


def _overall(formula: Callable[[Array], Array]) -> Metric:
    return Metric("counts", _scored_counts, lambda sums: MetricValue(np.asarray(formula(sums))))


def _correlation(
    shared: Array, spread: Array, other: Array, *, same: Bool[np.ndarray, "*shape"]
) -> Array:
    """Divide a covariance by two spreads: NaN where they are 0 and the two are the same, else 0."""
    values = safe_divide(shared, np.sqrt(spread) * np.sqrt(other))
    return np.where(np.isnan(values) & ~same, 0.0, values)
