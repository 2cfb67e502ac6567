"""How members differ: pairwise diversity of their errors, and uncertainty per pixel."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int64

from ensemble.blas import one_blas_thread
from ensemble.fusion import CLASS_AXIS, scored_pixels
from evaluation.core.arrays import argmax
from evaluation.core.blocks import blocks, sum_blocks
from evaluation.core.ragged import Stack
from evaluation.core.types import Map, Maps
from members.maps import MapReader, check_agreement

BothCorrect = Int64[np.ndarray, "member member"]
PairMatrix = Float[np.ndarray, "member member"]
PerPixel = Float[np.ndarray, "*members image row col"]


@dataclass(frozen=True)
class PairwiseDiversity:
    """Measures of two members each, from the pixels that one, both or none predicts correctly.

    Args:
        disagreement: share of the pixels where one is correct and the other wrong.
        double_fault: share of the pixels where both are wrong; on the diagonal where one is.
        correlation: of being correct, -1 to 1 (the phi coefficient); NaN where a member is always
            correct or always wrong.

    References:
        Kuncheva and Whitaker, "Measures of Diversity in Classifier Ensembles and Their Relationship
        with the Ensemble Accuracy", Machine Learning 51, 2003.
    """

    disagreement: PairMatrix
    double_fault: PairMatrix
    correlation: PairMatrix


def measure_pairs(both: BothCorrect, pixels: int) -> PairwiseDiversity:
    """Return the pairwise measures.

    Args:
        both: number of pixels that two members predict correctly; on the diagonal, one.
        pixels: number of all pixels; above 0.

    Examples:
        >>> measure_pairs(np.array([[3, 2], [2, 3]]), 5).disagreement.round(1)
        array([[0. , 0.4],
               [0.4, 0. ]])
    """
    correct = both / pixels
    first = np.diagonal(correct)[:, np.newaxis]
    second = first.T
    wrong = 1 - first - second + correct
    spread = np.sqrt(first * (1 - first) * second * (1 - second))
    correlation = np.full(correct.shape, np.nan)
    np.divide(correct - first * second, spread, out=correlation, where=spread > 0)
    return PairwiseDiversity(first + second - 2 * correct, wrong, correlation)


def count_both_right(
    members: Sequence[MapReader], target: Stack, *, ignore: int | None
) -> tuple[BothCorrect, int]:
    """Count the scored pixels that two members predict correctly, and all scored pixels.

    Args:
        target: class index per pixel, (image, row, col); 255 where unlabelled.
        ignore: pixels of this true class are left out too.

    Raises:
        BadMaps: members that do not agree.
    """
    extent = check_agreement(members).extent

    def work(block: slice) -> BothCorrect:
        true = np.asarray(target[block])
        scored = scored_pixels(true, ignore)
        # Ones and zeros: float32 counts them exactly up to 2^24 pixels, int64 would be slow.
        correct = np.ones((len(members) + 1, int(scored.sum())), np.float32)
        for row, member in zip(correct, members, strict=False):
            row[...] = (argmax(member.read(block)) == true)[scored]
        return _products(correct)  # the last row, of ones, counts the scored pixels

    with one_blas_thread():
        both = sum_blocks(work, extent, what="pairs")
    return both[:-1, :-1], int(both[-1, -1])


def _products(correct: Float[np.ndarray, "member pixel"]) -> BothCorrect:
    pieces = [correct[:, part] for part in blocks(correct.shape[1], 1 << 24)]
    return sum(
        (np.rint(piece @ piece.T).astype(np.int64) for piece in pieces),
        start=np.zeros((len(correct),) * 2, np.int64),
    )


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
    all members predict the same, however uncertain; log 2 where two members are each certain of
    another class.


    References:
        Houlsby et al., "Bayesian Active Learning for Classification and Preference Learning",
        arXiv 1112.5745, with members in place of draws from a posterior.

    Examples:
        >>> maps = np.eye(2, dtype=np.float32)[:, None, :, None, None]
        >>> [round(float(values.item()), 2) for values in uncertainty(maps)]
        [0.69, 0.69]
    """
    shares = maps / maps.sum(axis=CLASS_AXIS, keepdims=True)
    total = entropy(shares.mean(axis=0))
    # Rounding may give slightly negative values.
    return total, np.maximum(total - entropy(shares).mean(axis=0), 0)
