"""Metrics of the edges of regions, from label maps."""

from collections.abc import Callable, Iterator
from typing import Annotated

import numpy as np
from jaxtyping import Bool, Float
from pydantic import Field

from evaluation.confusion import scored_pixels
from evaluation.core.specs import one_per_class
from evaluation.core.types import Array
from evaluation.iou import PerClass, mean_over_present, safe_divide
from evaluation.metrics.metric_base import Metric, MetricInput, MetricValue, mean_of_images

Masks = Bool[np.ndarray, "image class row col"]
Distances = Float[np.ndarray, "_"]
EdgeMetric = Callable[[Distances, Distances, int], float]
"""A value of a class from distances of target edges to prediction edges, and back, in pixels."""

Tolerance = Annotated[float, Field(ge=0, le=100_000)]

PERCENT = 95


def boundary_iou(*, width: Annotated[float, Field(gt=0, le=1)] = 0.02) -> Metric:
    """IoU of the bands along the edges of regions.

    Large regions have most pixels far inside, so IoU hides what happens at their edges. Pixels are
    added up over the images, as for IoU; a class in neither target nor prediction is left out.

    Args:
        width: of the band inside each region, as a fraction of the image's diagonal; at least 1
            px. The border of the image is an edge too.

    References:
        Cheng et al., "Boundary IoU: Improving Object-Centric Image Segmentation Evaluation", CVPR
        2021, and `mask_to_boundary` of its code: erosions by 3 x 3.
    """

    def accumulate(images: MetricInput) -> Array:
        pixels = max(1, round(width * _diagonal(images)))
        target, pred = (_band(mask, pixels) for mask in _regions(images))
        both, either = (mask.sum(axis=(2, 3)) for mask in (target & pred, target | pred))
        return np.stack([both, either], axis=1)

    def compute(sums: Array) -> MetricValue:
        values = safe_divide(sums[..., 0, :].astype(np.float64), sums[..., 1, :])
        return MetricValue(mean_over_present(values), values)

    return Metric("labels", accumulate, compute)


def hausdorff() -> Metric:
    """Hausdorff distance in pixels; lower is better: the largest distance between two edges.

    The larger of the two largest distances: from the target's edge to the prediction's, and back. A
    single wrong pixel far away decides it; `hausdorff_95` leaves out the furthest twentieth. Means,
    and what is missing in one of the two, as for `hausdorff_95`.

    References:
        Huttenlocher et al., "Comparing Images Using the Hausdorff Distance", PAMI 1993; MONAI's
        `compute_hausdorff_distance(percentile=None)`.

    Examples:
        >>> target = np.array([[[0, 1, 0, 0, 0, 0]]], np.uint8)
        >>> pred = np.array([[[0, 1, 0, 0, 1, 0]]], np.uint8)
        >>> hausdorff().measure(target, pred, classes=2).per_class
        array([[1., 3.]])
    """
    return _edge_metric(_larger_percentile(100), one_lacks=_diagonal)


def hausdorff_95() -> Metric:
    """95th percentile Hausdorff distance in pixels; lower is better.

    The larger of two percentiles: of the distances from the target's edge to the prediction's, and
    back. Per image and class, then the mean over images. If only one of the two has the class there
    is no distance; the diagonal of the image, the largest possible one, takes its place, so that
    leaving a class out is never rewarded. An image where neither has it is left out.

    References:
        Huttenlocher et al., "Comparing Images Using the Hausdorff Distance", PAMI 1993, for ranked
        distances; percentiles as in MONAI's `compute_hausdorff_distance`.
    """
    return _edge_metric(_larger_percentile(PERCENT), one_lacks=_diagonal)


def assd() -> Metric:
    """Average symmetric surface distance in pixels; lower is better.

    The mean over all edge pixels of both of the distance to the other's edge, so that the longer
    edge weighs more; MedPy's `assd` averages the two directions instead. Means, and what is missing
    in one of the two, as for `hausdorff_95`.

    References:
        Heimann et al., "Comparison and Evaluation of Methods for Liver Segmentation From CT
        Datasets", IEEE Transactions on Medical Imaging 2009; MONAI's
        `compute_average_surface_distance(symmetric=True)`.

    Examples:
        >>> target = np.array([[[0, 1, 0, 0, 0, 0]]], np.uint8)
        >>> pred = np.array([[[0, 1, 0, 0, 1, 0]]], np.uint8)
        >>> assd().measure(target, pred, classes=2).per_class.round(3)
        array([[0.111, 1.   ]])
    """

    def mean(to_pred: Distances, to_target: Distances, _: int) -> float:
        return float(np.concatenate([to_pred, to_target]).mean())

    return _edge_metric(mean, one_lacks=_diagonal)


def surface_dice(classes: int, *, tolerance_px: Tolerance | list[Tolerance] = 1.0) -> Metric:
    """Share of the edge pixels of both that lie within a tolerance of the other's edge.

    Per image and class, then the mean over images. 0 if only one of the two has the class; an image
    where neither has it is left out.

    Args:
        tolerance_px: largest distance of an edge pixel that is within tolerance; one for all
            classes, or one per class, in their order.

    References:
        Nikolov et al., "Clinically Applicable Segmentation of Head and Neck Anatomy for
        Radiotherapy", Journal of Medical Internet Research 2021, where each organ has a tolerance;
        with pixels for surface elements, as in MONAI's `compute_surface_dice`.

    Examples:
        >>> target = np.array([[[0, 1, 0, 0, 0, 0]]], np.uint8)
        >>> pred = np.array([[[0, 1, 0, 0, 1, 0]]], np.uint8)
        >>> strict_for_1 = surface_dice(2, tolerance_px=[1.0, 0.0])
        >>> strict_for_1.measure(target, pred, classes=2).per_class.round(3)
        array([[1.   , 0.667]])
    """
    tolerances = one_per_class("tolerance_px", tolerance_px, classes)

    def share(to_pred: Distances, to_target: Distances, label: int) -> float:
        tolerance = tolerances[label]
        within = (to_pred <= tolerance).sum() + (to_target <= tolerance).sum()
        return float(within / (len(to_pred) + len(to_target)))

    return _edge_metric(share, one_lacks=lambda _: 0.0)


def _regions(images: MetricInput) -> tuple[Masks, Masks]:
    """Return the masks of each scored class in target and prediction, on the scored pixels.

    Other pixels are in no region of either, so what is predicted there has no effect; a region that
    touches them ends there in both.
    """
    labels = np.arange(images.classes)[:, np.newaxis, np.newaxis]
    target, pred = (a[:, np.newaxis] == labels for a in (images.target, images.pred))
    if images.ignore is not None:
        target[:, images.ignore] = pred[:, images.ignore] = False
    pred &= scored_pixels(images.target, images.ignore)[:, np.newaxis]
    return target, pred


def _larger_percentile(percent: int) -> EdgeMetric:
    return lambda to_pred, to_target, _: float(
        max(np.percentile(distances, percent) for distances in (to_pred, to_target))
    )


def _edge_metric(metric: EdgeMetric, *, one_lacks: Callable[[MetricInput], float]) -> Metric:
    """Return a metric of the distances between the edges of each class in each image.

    A class has its mean over the images where target or prediction have it; the overall value is
    the mean over classes.

    Args:
        metric: of the distances of one class in one image.
        one_lacks: the value if only one of target and prediction has the class.
    """

    def accumulate(images: MetricInput) -> Array:
        target, pred = _regions(images)
        true, predicted = target.any(axis=(2, 3)), pred.any(axis=(2, 3))
        values: PerClass = np.where(true ^ predicted, one_lacks(images), np.nan)
        for index, distances in _edge_distances(target, pred, np.asarray(true & predicted)):
            values[index] = metric(*distances, index[1])
        return mean_of_images(values)

    def compute(sums: Array) -> MetricValue:
        values = safe_divide(sums[..., 0, :], sums[..., 1, :])
        return MetricValue(mean_over_present(values), values)

    return Metric("labels", accumulate, compute)


def _edge_distances(
    target: Masks, pred: Masks, present: Bool[np.ndarray, "image class"]
) -> Iterator[tuple[tuple[int, int], tuple[Distances, Distances]]]:
    """Yield (image, class) and the distances between edges, target to prediction and back.

    An edge pixel has a side on another region or on the border of the image.
    """
    from scipy import ndimage  # slow to import

    cross = ndimage.generate_binary_structure(2, 1)[np.newaxis, np.newaxis]
    edges = [mask & ~ndimage.binary_erosion(mask, cross) for mask in (target, pred)]
    for image, label in np.argwhere(present).tolist():
        true, predicted = (edge[image, label] for edge in edges)
        to_pred, to_target = (ndimage.distance_transform_edt(~edge) for edge in (predicted, true))
        yield (image, label), (to_pred[true], to_target[predicted])


def _diagonal(images: MetricInput) -> float:
    return float(np.hypot(*images.target.shape[1:]))


def _band(mask: Masks, pixels: int) -> Masks:
    from scipy import ndimage

    size = (1, 1, 2 * pixels + 1, 2 * pixels + 1)
    inner = ndimage.minimum_filter(mask.view(np.uint8), size, mode="constant", cval=0)
    band: Masks = mask & (inner == 0)
    return band
