"""How members differ: pairwise diversity of their errors, and uncertainty per pixel."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int64, UInt8

from ensemble.blas import one_blas_thread
from ensemble.fusion import CLASS_AXIS
from evaluation.confusion import scored_pixels
from evaluation.core.arrays import argmax
from evaluation.core.blocks import blocks, sum_blocks
from evaluation.core.ragged import Stack
from evaluation.core.types import Map, Maps
from members.maps import MapReader, check_agreement

PairTable = Int64[np.ndarray, "member member"]
PairMatrix = Float[np.ndarray, "member member"]
PerPixel = Float[np.ndarray, "*members image row col"]


@dataclass(frozen=True)
class PairCounts:
    """Scored pixels by what two members predict there; on the diagonal, one.

    Args:
        both_right: pixels that both predict correctly.
        same_label: pixels for which both predict one class, right or wrong.
        pixels: all scored pixels.
    """

    both_right: PairTable
    same_label: PairTable
    pixels: int


@dataclass(frozen=True)
class PairwiseDiversity:
    """Measures of two members each, from the pixels that one, both or none predicts correctly.

    Args:
        disagreement: share of the pixels where one is correct and the other wrong.
        double_fault: share of the pixels where both are wrong; on the diagonal where one is.
        correlation: of being correct, -1 to 1 (the phi coefficient); NaN where a member is always
            correct or always wrong.
        q_statistic: Yule's Q of being correct, -1 to 1: 1 where the errors of one are among those
            of the other, 0 where they are independent; NaN where no pixel is of either kind.
        label_disagreement: share of the pixels for which they predict different classes; both may
            be wrong.

    References:
        Kuncheva and Whitaker, "Measures of Diversity in Classifier Ensembles and Their Relationship
        with the Ensemble Accuracy", Machine Learning 51, 2003; for labels Skalak, "The Sources of
        Increased Accuracy for Two Proposed Boosting Algorithms", 1996.
    """

    disagreement: PairMatrix
    double_fault: PairMatrix
    correlation: PairMatrix
    q_statistic: PairMatrix
    label_disagreement: PairMatrix


def measure_pairs(counts: PairCounts) -> PairwiseDiversity:
    """Return the pairwise measures of counts with at least one pixel.

    Examples:
        >>> counts = PairCounts(np.array([[3, 2], [2, 3]]), np.array([[5, 2], [2, 5]]), 5)
        >>> measure_pairs(counts).disagreement.round(1)
        array([[0. , 0.4],
               [0.4, 0. ]])
    """
    correct = counts.both_right / counts.pixels
    first = np.diagonal(correct)[:, np.newaxis]
    second = first.T
    wrong = 1 - first - second + correct
    spread = np.sqrt(first * (1 - first) * second * (1 - second))
    correlation = np.full(correct.shape, np.nan)
    np.divide(correct - first * second, spread, out=correlation, where=spread > 0)
    return PairwiseDiversity(
        first + second - 2 * correct,
        wrong,
        correlation,
        _yules_q(counts),
        1 - counts.same_label / counts.pixels,
    )


def _yules_q(counts: PairCounts) -> PairMatrix:
    both = counts.both_right.astype(np.float64)
    right = np.diagonal(both)[:, np.newaxis]
    none = counts.pixels - right - right.T + both
    alike, apart = both * none, (right - both) * (right.T - both)
    q: PairMatrix = np.full(both.shape, np.nan)
    np.divide(alike - apart, alike + apart, out=q, where=alike + apart > 0)
    return q


def count_pairs(members: Sequence[MapReader], target: Stack, *, ignore: int | None) -> PairCounts:
    """Count the scored pixels by what two members predict there.

    Args:
        target: class index per pixel, (image, row, col); 255 where unlabelled.
        ignore: pixels of this true class are left out too.

    Raises:
        BadMaps: members that do not agree.
    """
    extent = check_agreement(members).extent

    def work(block: slice) -> Int64[np.ndarray, "kind member member"]:
        true = np.asarray(target[block])
        scored = scored_pixels(true, ignore)
        # Ones and zeros: float32 counts them exactly up to 2^24 pixels, int64 would be slow.
        correct = np.ones((len(members) + 1, int(scored.sum())), np.float32)
        labels = np.zeros(correct.shape, np.uint8)
        for row, label, member in zip(correct, labels, members, strict=False):
            label[...] = argmax(member.read(block))[scored]
            row[...] = label == true[scored]
        # The last row, of ones, counts the scored pixels.
        return np.stack([_products(correct), _equal_labels(labels)])

    with one_blas_thread():
        both, same = sum_blocks(work, extent, what="pairs")
    return PairCounts(both[:-1, :-1], same[:-1, :-1], int(both[-1, -1]))


def _products(correct: Float[np.ndarray, "member pixel"]) -> PairTable:
    pieces = [correct[:, part] for part in blocks(correct.shape[1], 1 << 24)]
    return sum(
        (np.rint(piece @ piece.T).astype(np.int64) for piece in pieces),
        start=np.zeros((len(correct),) * 2, np.int64),
    )


def _equal_labels(labels: UInt8[np.ndarray, "member pixel"]) -> PairTable:
    same = np.zeros((len(labels),) * 2, np.int64)
    for first in range(len(labels)):
        for second in range(first, len(labels)):
            equal = np.count_nonzero(labels[first] == labels[second])
            same[first, second] = same[second, first] = equal
    return same


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
