"""Intersection over union from counts, and what a protocol is."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Num

Tables = Num[np.ndarray, "*sets true guess"]
"""Counts of one or more sets of pictures; the leading axes are whatever the sets are."""

PerClass = Float[np.ndarray, "*sets class"]


@dataclass(frozen=True)
class Score:
    """What a protocol says about sets of pictures.

    Args:
        iou: of each class; NaN where a class is absent or not scored.
        miou: the protocol's mean; NaN where nothing was counted.
    """

    iou: Float[np.ndarray, "*sets class"]
    miou: Float[np.ndarray, "*sets"]


Protocol = Callable[[Tables, int | None], Score]
"""A definition of the score: counts, (..., true, guess), and the ignored class give a `Score`."""


def overlap(counts: Tables, ignore: int | None) -> PerClass:
    """Return the IoU of each class over the pixels whose truth is not the ignored class.

    Args:
        counts: counts of whole sets of pictures; those of single pictures are summed before.
        ignore: pixels of this true class are dropped; None drops none.

    Returns:
        Intersection over union; NaN where a class is in neither truth nor guess. The ignored
        class has no intersection left: 0 where it was guessed on a kept pixel, else NaN.
    """
    hits = np.diagonal(counts, axis1=-2, axis2=-1).astype(np.float64)
    true = counts.sum(axis=-1)
    guessed = counts.sum(axis=-2)
    if ignore is not None:
        guessed = guessed - counts[..., ignore, :]
        hits[..., ignore] = 0
        true[..., ignore] = 0
    union = true + guessed - hits
    return _divided(hits, union)


def mean_over_present(iou: PerClass) -> Float[np.ndarray, "*sets"]:
    """Average over the classes that have an IoU; NaN where none has."""
    present = ~np.isnan(iou)
    total = np.asarray(np.where(present, iou, 0).sum(axis=-1))
    return _divided(total, np.asarray(present.sum(axis=-1)))


def _divided(
    part: Float[np.ndarray, "*shape"], whole: Num[np.ndarray, "*shape"]
) -> Float[np.ndarray, "*shape"]:
    shares: Float[np.ndarray, "*shape"] = np.full(part.shape, np.nan)
    np.divide(part, whole, out=shares, where=whole > 0)
    return shares
