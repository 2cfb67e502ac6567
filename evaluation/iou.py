"""Intersection over union from counts, and what a protocol is."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Bool, Float, Num

Tables = Num[np.ndarray, "*sets true prediction"]
"""Counts of one or more sets of images; the leading axes are whatever the sets are."""

PerClass = Float[np.ndarray, "*sets class"]
Means = Float[np.ndarray, "*sets"]
Scored = Bool[np.ndarray, "*sets"]

Absent = Literal["skip", "zero", "one", "nan"]
"""What a class counts that is in neither target nor prediction: nothing, 0, 1, or no mean at all."""


@dataclass(frozen=True)
class Score:
    """What a protocol says about sets of images.

    Args:
        iou: of each class; NaN where a class does not enter the mean.
        miou: the protocol's mean; NaN where nothing was counted.
        absent: what absent classes counted; None where no class is averaged.
    """

    iou: Float[np.ndarray, "*sets class"]
    miou: Float[np.ndarray, "*sets"]
    absent: Absent | None = "skip"


Protocol = Callable[[Tables, int | None], Score]
"""A definition of the score: counts, (..., true, prediction), and the ignored class give a `Score`.

Most look at the summed counts of a set. Those that look at each image are of the class
`evaluation.protocols.PerImageProtocol`, and `evaluation.protocols.score_images` scores with any.
"""


def iou_per_class(counts: Tables, ignore: int | None) -> PerClass:
    """Return the IoU of each class over the pixels whose target is not the ignored class.

    Args:
        counts: counts of whole sets of images; those of single images are summed before.
        ignore: pixels of this true class are dropped; None drops none.

    Returns:
        Intersection over union; NaN where a class is in neither target nor prediction. The ignored
        class has no intersection left: 0 where it was predicted on a kept pixel, else NaN.
    """
    return safe_divide(*intersection_and_union(counts, ignore))


def intersection_and_union(counts: Tables, ignore: int | None) -> tuple[PerClass, PerClass]:
    """Count pixels of each class in both target and prediction, and in one of the two.

    Args:
        counts: as in `iou_per_class`.
        ignore: as in `iou_per_class`.
    """
    hits = np.diagonal(counts, axis1=-2, axis2=-1).astype(np.float64)
    true = counts.sum(axis=-1)
    predicted = counts.sum(axis=-2)
    if ignore is not None:
        predicted = predicted - counts[..., ignore, :]
        hits[..., ignore] = 0
        true[..., ignore] = 0
    return hits, true + predicted - hits


def any_pixel(counts: Tables, ignore: int | None) -> Scored:
    """Tell which sets hold a pixel whose target is not the ignored class."""
    pixels = counts.sum(axis=(-2, -1))
    if ignore is not None:
        pixels = pixels - counts[..., ignore, :].sum(axis=-1)
    return np.asarray(pixels > 0)


def class_mean(iou: PerClass, absent: Absent, *, left_out: int | None, scored: Scored) -> Score:
    """Average over classes, by what an absent one counts.

    Args:
        iou: of each class; NaN where it is absent.
        absent: what an absent class counts.
        left_out: a class that the mean is not over; None where it is over all.
        scored: which sets have a pixel to count; the others have no score whatever `absent` is.
    """
    filled = np.where(np.isnan(iou), {"zero": 0.0, "one": 1.0}.get(absent, np.nan), iou)
    filled[~scored] = np.nan
    others = filled if left_out is None else np.delete(filled, left_out, axis=-1)
    if left_out is not None:
        filled[..., left_out] = np.nan
    mean = np.asarray(others.mean(axis=-1)) if absent == "nan" else mean_over_present(others)
    return Score(filled, mean, absent)


def mean_over_present(iou: PerClass) -> Means:
    """Average over the classes that have an IoU; NaN where none has."""
    present = ~np.isnan(iou)
    total = np.asarray(np.where(present, iou, 0).sum(axis=-1))
    return safe_divide(total, np.asarray(present.sum(axis=-1)))


def safe_divide(
    part: Float[np.ndarray, "*shape"], whole: Num[np.ndarray, "*shape"]
) -> Float[np.ndarray, "*shape"]:
    """Divide; NaN where there is nothing to divide by."""
    found: Float[np.ndarray, "*shape"] = np.full(part.shape, np.nan)
    np.divide(part, whole, out=found, where=whole > 0)
    return found
