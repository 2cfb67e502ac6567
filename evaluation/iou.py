"""Intersection over union from counts, and the type of a protocol."""

from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Bool, Float, Num

Tables = Num[np.ndarray, "*sets target prediction"]
"""Counts of one or more sets of images; the leading axes enumerate the sets."""

PerClass = Float[np.ndarray, "*sets class"]
Means = Float[np.ndarray, "*sets"]
Scored = Bool[np.ndarray, "*sets"]

LeftOut = Collection[int | None]
"""Classes that do not enter a mean."""

Absent = Literal["skip", "zero", "one", "nan"]
"""Value of a class that is in neither target nor prediction: left out, 0, 1, or no mean at all."""


@dataclass(frozen=True)
class Score:
    """Scores of sets of images under a protocol.

    Args:
        iou: of each class, or what the protocol measures of it, such as Dice; NaN where a class is
            not scored.
        miou: the protocol's number, most often the mean; NaN where nothing was counted.
        absent: value of absent classes; None if no class is averaged.
    """

    iou: Float[np.ndarray, "*sets class"]
    miou: Float[np.ndarray, "*sets"]
    absent: Absent | None = "skip"


Protocol = Callable[[Tables, int | None], Score]
"""A definition of the score: counts (..., target, prediction) and the ignored class give a `Score`.

Most protocols score the summed counts of a set. Those that score each image are of the class
`evaluation.protocols.PerImageProtocol`; `evaluation.protocols.score_images` scores with any.
"""


def iou_per_class(counts: Tables, ignore: int | None) -> PerClass:
    """Return the IoU of each class over the pixels whose target is not the ignored class.

    Returns:
        NaN where a class is in neither target nor prediction. The ignored class has no
        intersection: 0 if it was predicted on a scored pixel, else NaN.

    Examples:
        >>> iou_per_class(np.array([[4, 4], [1, 3]]), ignore=None).round(2)
        array([0.44, 0.38])
    """
    return safe_divide(*intersection_and_union(counts, ignore))


def intersection_and_union(counts: Tables, ignore: int | None) -> tuple[PerClass, PerClass]:
    """Count the pixels of each class in both target and prediction, and in either of them."""
    hits, true, predicted = overlaps(counts, ignore)
    return hits, true + predicted - hits


def overlaps(counts: Tables, ignore: int | None) -> tuple[PerClass, PerClass, PerClass]:
    """Count the pixels of each class in both, in the target and in the prediction.

    Pixels whose target is the ignored class are in none of the three.
    """
    hits = np.diagonal(counts, axis1=-2, axis2=-1).astype(np.float64)
    true = counts.sum(axis=-1).astype(np.float64)
    predicted = counts.sum(axis=-2).astype(np.float64)
    if ignore is not None:
        predicted -= counts[..., ignore, :]
        hits[..., ignore] = 0
        true[..., ignore] = 0
    return hits, true, predicted


def dice_of(hits: PerClass, true: PerClass, predicted: PerClass) -> PerClass:
    """Return 2 hits / (true + predicted); NaN where a class is in neither."""
    return safe_divide(2 * hits, true + predicted)


def precision_of(hits: PerClass, true: PerClass, predicted: PerClass) -> PerClass:
    """Return hits / predicted; 0 where a class is only in the target, NaN where in neither."""
    return _share(hits, predicted, true)


def recall_of(hits: PerClass, true: PerClass, predicted: PerClass) -> PerClass:
    """Return hits / true; 0 where a class is only predicted, NaN where it is in neither."""
    return _share(hits, true, predicted)


def _share(hits: PerClass, whole: PerClass, other: PerClass) -> PerClass:
    return np.where((whole == 0) & (other > 0), 0.0, safe_divide(hits, whole))


def any_pixel(counts: Tables, ignore: int | None) -> Scored:
    """Return which sets hold a scored pixel."""
    pixels = counts.sum(axis=(-2, -1))
    if ignore is not None:
        pixels = pixels - counts[..., ignore, :].sum(axis=-1)
    return np.asarray(pixels > 0)


def class_mean(iou: PerClass, absent: Absent, *, left_out: LeftOut, scored: Scored) -> Score:
    """Average over classes.

    Args:
        iou: of each class; NaN where it is absent.
        absent: value of absent classes.
        left_out: the classes that are not averaged; None stands for no class.
        scored: which sets hold a scored pixel; the others have no score, whatever `absent` is.
    """
    filled = np.where(np.isnan(iou), {"zero": 0.0, "one": 1.0}.get(absent, np.nan), iou)
    filled[~scored] = np.nan
    classes = [label for label in left_out if label is not None]
    others = np.delete(filled, classes, axis=-1)
    filled[..., classes] = np.nan
    mean = np.asarray(others.mean(axis=-1)) if absent == "nan" else mean_over_present(others)
    return Score(filled, mean, absent)


def mean_over_present(iou: PerClass) -> Means:
    """Average over the classes that have a value; NaN where none has."""
    present = ~np.isnan(iou)
    total = np.asarray(np.where(present, iou, 0).sum(axis=-1))
    return safe_divide(total, np.asarray(present.sum(axis=-1)))


def safe_divide(
    part: Float[np.ndarray, "*shape"], whole: Num[np.ndarray, "*shape"]
) -> Float[np.ndarray, "*shape"]:
    """Divide; NaN where the divisor is not above 0."""
    ratio: Float[np.ndarray, "*shape"] = np.full(part.shape, np.nan)
    np.divide(part, whole, out=ratio, where=whole > 0)
    return ratio
