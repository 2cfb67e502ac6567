"""Metrics of where regions end, from label maps.

IoU of the bands along the edges of regions.

How far edges are apart, but for the farthest twentieth.

Regions of each class, their edges, and how far the edges of two are apart.

Share of the edges that lie where the other's edge is, give or take some pixels.
"""

from collections.abc import Callable, Iterator
from typing import Annotated

import numpy as np
from jaxtyping import Bool, Float
from pydantic import Field

from evaluation.core.classes import UNLABELLED
from evaluation.core.types import Array
from evaluation.iou import PerClass, mean_over_present, safe_divide
from evaluation.metrics.metric_base import (
    Metric,
    MetricInput,
    MetricValue,
    mean_of_images,
)

Masks = Bool[np.ndarray, "image class row col"]
Distances = Float[np.ndarray, "_"]
OfEdges = Callable[[Distances, Distances], float]


def regions(seen: MetricInput) -> tuple[Masks, Masks]:
    """Return where target and prediction have each scored class, on the pixels that are scored.

    Others are in no region of either, so what is predicted there has no effect; where a region runs
    into them it ends for both.
    """
    labels = np.arange(seen.classes)[:, np.newaxis, np.newaxis]
    target, pred = (a[:, np.newaxis] == labels for a in (seen.target, seen.pred))
    dropped = seen.target == UNLABELLED
    if seen.ignore is not None:
        dropped |= seen.target == seen.ignore
        target[:, seen.ignore] = pred[:, seen.ignore] = False
    pred &= ~dropped[:, np.newaxis]
    return target, pred


def by_edges(measured: OfEdges, *, one_lacks: Callable[[MetricInput], float]) -> Metric:
    """Make a metric of the distances between the edges of each class, image by image.

    A class has its mean over the images where target or prediction have it; the mean is over classes.

    Args:
        measured: gives the value by the distances (px) from the target's edge pixels to the prediction'
            and from the prediction' to the target's.
        one_lacks: the value where only one of the two has the class.
    """

    def terms(seen: MetricInput) -> Array:
        target, pred = regions(seen)
        there, predicted = target.any(axis=(2, 3)), pred.any(axis=(2, 3))
        values: PerClass = np.where(there ^ predicted, one_lacks(seen), np.nan)
        for place, distances in edge_distances(target, pred, np.asarray(there & predicted)):
            values[place] = measured(*distances)
        return mean_of_images(values)

    def value(sums: Array) -> MetricValue:
        found = safe_divide(sums[..., 0, :], sums[..., 1, :])
        return MetricValue(mean_over_present(found), found)

    return Metric("labels", terms, value)


def edge_distances(
    target: Masks, pred: Masks, places: Bool[np.ndarray, "image class"]
) -> Iterator[tuple[tuple[int, int], tuple[Distances, Distances]]]:
    """Yield for each image and class the edges' distances, target to prediction and prediction to target.

    An edge pixel is one with a side on another region or on the border of the image.
    """
    from scipy import ndimage  # slow to import

    cross = ndimage.generate_binary_structure(2, 1)[np.newaxis, np.newaxis]
    edges = [mask & ~ndimage.binary_erosion(mask, cross) for mask in (target, pred)]
    for image, label in np.argwhere(places).tolist():
        mine, theirs = (edge[image, label] for edge in edges)
        to_theirs, to_mine = (ndimage.distance_transform_edt(~edge) for edge in (theirs, mine))
        yield (image, label), (to_theirs[mine], to_mine[theirs])


def boundary_iou(*, width: Annotated[float, Field(gt=0, le=1)] = 0.02) -> Metric:
    """Intersection over union of what lies in a region and near its edge.

    Large regions have most pixels far inside, where IoU hides what happens at their edges. Pixels
    are added up over the images, as for IoU; a class in neither target nor prediction is left out.

    Args:
        width: of the band inside each region, as a part of the image's diagonal; at least 1 px.
            The border of the image is an edge too.

    Source: Cheng et al., "Boundary IoU: Improving Object-Centric Image Segmentation Evaluation",
    CVPR 2021, and `mask_to_boundary` of its code: erosions by 3 x 3.
    """

    def terms(seen: MetricInput) -> Array:
        diagonal = float(np.hypot(*seen.target.shape[1:]))
        pixels = max(1, round(width * diagonal))
        target, pred = (_band(mask, pixels) for mask in regions(seen))
        both, either = ((mask).sum(axis=(2, 3)) for mask in (target & pred, target | pred))
        return np.stack([both, either], axis=1)

    def value(sums: Array) -> MetricValue:
        found = safe_divide(sums[..., 0, :].astype(np.float64), sums[..., 1, :])
        return MetricValue(mean_over_present(found), found)

    return Metric("labels", terms, value)


def _band(mask: Masks, pixels: int) -> Masks:
    from scipy import ndimage

    size = (1, 1, 2 * pixels + 1, 2 * pixels + 1)
    inner = ndimage.minimum_filter(mask.view(np.uint8), size, mode="constant", cval=0)
    band: Masks = mask & (inner == 0)
    return band


PERCENT = 95


def hausdorff_95() -> Metric:
    """95th percentile Hausdorff distance in pixels; less is better.

    The larger of two percentiles: of the distances from the target's edge to the prediction', and back.
    Of each image and class, then the mean over images. Where only one of the two has the class
    there is no distance; the diagonal of the image, which none exceeds, stands for it, so that
    leaving a class out is never rewarded. An image where neither has it is left out.

    Source: Huttenlocher et al., "Comparing Images Using the Hausdorff Distance", PAMI 1993, for
    ranked distances; percentiles as in MONAI's `compute_hausdorff_distance`.
    """

    def larger(to_pred: Distances, to_target: Distances) -> float:
        return float(max(np.percentile(each, PERCENT) for each in (to_pred, to_target)))

    return by_edges(larger, one_lacks=lambda seen: float(np.hypot(*seen.target.shape[1:])))


def surface_dice(*, tolerance_px: Annotated[float, Field(ge=0)] = 1.0) -> Metric:
    """Edge pixels within a tolerance of the other's edge, over all edge pixels of both.

    Of each image and class, then the mean over images. 0 where only one of the two has the
    class; an image where neither has it is left out.

    Args:
        tolerance_px: distance up to which an edge pixel counts as met.

    Source: Nikolov et al., "Clinically Applicable Segmentation of Head and Neck Anatomy for
    Radiotherapy", Journal of Medical Internet Research 2021; with pixels for surface elements, as
    in MONAI's `compute_surface_dice`.
    """

    def share(to_pred: Distances, to_target: Distances) -> float:
        met = (to_pred <= tolerance_px).sum() + (to_target <= tolerance_px).sum()
        return float(met / (len(to_pred) + len(to_target)))

    return by_edges(share, one_lacks=lambda _: 0.0)
