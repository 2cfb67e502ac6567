"""How members differ by twos: whether the same pixels are wrong in both.

Where an ensemble is unsure: entropy of its mean, and how much of it is members' quarrel.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int64, Shaped

from ensemble.blas import one_blas_thread
from ensemble.fusion import CLASS_AXIS
from evaluation.core.arrays import argmax
from evaluation.core.blocks import blocks, sum_blocks
from evaluation.core.classes import UNLABELLED
from evaluation.core.types import Map, Maps
from members.maps import MapReader, check_agreement

BothRight = Int64[np.ndarray, "member member"]
Measure = Float[np.ndarray, "member member"]


@dataclass(frozen=True)
class Pairs:
    """Measures of two members each, from which pixels are right in one, in both, in none.

    Args:
        disagreement: share of the pixels where one is right and the other wrong.
        double_fault: share of the pixels where both are wrong; on the diagonal where one is.
        correlation: of being right, -1 to 1 (the phi coefficient); NaN where a member is always
            right or always wrong.

    Source: Kuncheva and Whitaker, "Measures of Diversity in Classifier Ensembles and Their
    Relationship with the Ensemble Accuracy", Machine Learning 51, 2003.
    """

    disagreement: Measure
    double_fault: Measure
    correlation: Measure


def measure_pairs(both: BothRight, pixels: int) -> Pairs:
    """Return the measures.

    Args:
        both: in how many pixels two members are right; on the diagonal, one.
        pixels: how many were looked at; more than none.
    """
    right = both / pixels
    first = np.diagonal(right)[:, np.newaxis]
    second = first.T
    wrong = 1 - first - second + right
    spread = np.sqrt(first * (1 - first) * second * (1 - second))
    correlation = np.full(right.shape, np.nan)
    np.divide(right - first * second, spread, out=correlation, where=spread > 0)
    return Pairs(first + second - 2 * right, wrong, correlation)


def count_both_right(
    members: Sequence[MapReader], target: Shaped[np.ndarray, "..."], *, ignore: int | None
) -> tuple[BothRight, int]:
    """Count in how many scored pixels two members are right, and how many are scored.

    Args:
        members: readers of the same images.
        target: class index per pixel, (image, row, col); 255 where the annotators gave none.
        ignore: pixels of this true class are left out too.

    Raises:
        BadMaps: members that do not agree.
    """
    images = check_agreement(members)[0]

    def work(block: slice) -> BothRight:
        true = np.asarray(target[block])
        scored = true != UNLABELLED
        if ignore is not None:
            scored &= true != ignore
        # Ones and zeros: float32 counts them exactly up to 2^24 pixels, int64 would be slow.
        right = np.ones((len(members) + 1, int(scored.sum())), np.float32)
        for own, member in zip(right, members, strict=False):
            own[...] = (argmax(member.read(block)) == true)[scored]
        return _products(right)  # the last, who is always right, counts the scored pixels

    with one_blas_thread():
        both = sum_blocks(work, images, what="pairs")
    return both[:-1, :-1], int(both[-1, -1])


def _products(right: Float[np.ndarray, "member pixel"]) -> BothRight:
    pieces = [right[:, part] for part in blocks(right.shape[1], 1 << 24)]
    return sum(
        (np.rint(piece @ piece.T).astype(np.int64) for piece in pieces),
        start=np.zeros((len(right),) * 2, np.int64),
    )


PerPixel = Float[np.ndarray, "*members image row col"]


def entropy(maps: Map | Maps) -> PerPixel:
    """Return the entropy of each pixel's classes in nats, 0 to log(classes).

    Args:
        maps: probabilities; divided by their sum, since stored ones are rounded.
    """
    from scipy.special import entr

    shares = maps / maps.sum(axis=CLASS_AXIS, keepdims=True)
    nats: PerPixel = entr(shares).sum(axis=CLASS_AXIS)
    return nats


def uncertainty(maps: Maps) -> tuple[PerPixel, PerPixel]:
    """Return, for each pixel, the entropy of the members' mean and the mutual information.

    Mutual information is the entropy of the mean minus the mean of the members' entropies: 0 where
    all say the same, however unsure; log 2 where two members are each sure of another class.

    Args:
        maps: probabilities.

    Source: Houlsby et al., "Bayesian Active Learning for Classification and Preference Learning",
    arXiv 1112.5745, with members in the place of draws from a posterior.
    """
    shares = maps / maps.sum(axis=CLASS_AXIS, keepdims=True)
    whole = entropy(shares.mean(axis=0))
    # Rounding may leave a little less than nothing.
    return whole, np.maximum(whole - entropy(shares).mean(axis=0), 0)
