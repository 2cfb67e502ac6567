"""Boosted trees as plain arrays: taken from scikit-learn, evaluated a row of pixels at a time."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float, Integer

LEAVES = 8
"""Of a tree at most: a bit each in a byte."""

Values = Float[np.ndarray, "round tree leaf"]
PerByte = Integer[np.ndarray, "byte"]
Places = Integer[np.ndarray, "round tree node"]
Thresholds = Float[np.ndarray, "round tree node"]


@dataclass(frozen=True)
class Trees:
    """Trees as conditions and the leaves that each rules out.

    Instead of sending pixels down a tree, all its conditions are put to whole rows of pixels.
    Whoever goes right at a node cannot end in a leaf on its left; the first leaf that nothing rules
    out is the pixel's.

    Args:
        feature: which one a node looks at.
        threshold: pixels above it go right; infinite where a tree has fewer nodes.
        left: bits of the leaves on a node's left.
        value: what a leaf gives, from left to right.

    Source: Lucchese et al., "QuickScorer: A Fast Algorithm to Rank Documents with Additive
    Ensembles of Regression Trees", SIGIR 2015.
    """

    feature: Places
    threshold: Thresholds
    left: Places
    value: Values

    def totals(self, features: Float[np.ndarray, "feature pixel"]) -> Float[np.ndarray, "tree _"]:
        """Add up the trees' values over the rounds; `features` are of some thousands of pixels."""
        totals = np.zeros((self.feature.shape[1], features.shape[1]), np.float32)
        above = np.empty(features.shape[1], bool)
        ruled_out, now = np.empty((2, features.shape[1]), np.uint8)
        first = _first_left()
        for each in zip(self.feature, self.threshold, self.left, self.value, strict=True):
            for total, feature, threshold, left, value in zip(totals, *each, strict=True):
                ruled_out[:] = 0
                for row, limit, leaves in zip(feature, threshold, left, strict=True):
                    np.greater(features[row], limit, out=above)
                    np.multiply(above.view(np.uint8), leaves, out=now)
                    np.bitwise_or(ruled_out, now, out=ruled_out)
                total += value[first][ruled_out]
        return totals


def flattened(rounds: Sequence[Sequence[Any]], trees: int) -> Trees:
    """Take the trees out of scikit-learn's predictors.

    Args:
        rounds: the predictors of each round, as `HistGradientBoostingClassifier` keeps them.
        trees: how many a round has.
    """
    shape = (len(rounds), trees, LEAVES - 1)
    feature, left = np.zeros(shape, np.int32), np.zeros(shape, np.uint8)
    threshold = np.full(shape, np.inf, np.float32)
    value = np.zeros((len(rounds), trees, LEAVES), np.float32)
    for place in np.ndindex(len(rounds), trees):
        nodes = rounds[place[0]][place[1]].nodes
        leaves, conditions = _walked(nodes, 0, 0)
        value[place][: len(leaves)] = leaves
        for spot, (node, ruled_out) in enumerate(conditions):
            feature[place][spot] = nodes[node]["feature_idx"]
            threshold[place][spot] = _rounded_down(nodes[node]["num_threshold"])
            left[place][spot] = ruled_out
    return Trees(feature, threshold, left, value)


def _walked(nodes: Any, node: int, before: int) -> tuple[list[float], list[tuple[int, int]]]:
    """Return the leaves under a node, and each inner node with the bits of its left leaves."""
    if nodes[node]["is_leaf"]:
        return [nodes[node]["value"]], []
    left, inner = _walked(nodes, int(nodes[node]["left"]), before)
    right, others = _walked(nodes, int(nodes[node]["right"]), before + len(left))
    bits = ((1 << len(left)) - 1) << before
    return left + right, [(node, bits), *inner, *others]


def _rounded_down(threshold: float) -> np.float32:
    """Round to float32 so that no float32 feature changes sides."""
    near = np.float32(threshold)
    return np.nextafter(near, np.float32(-np.inf)) if near > threshold else near


def _first_left() -> PerByte:
    """Return, for each byte, the place of the lowest bit that is 0; none is in no tree."""
    bits = np.arange(256)[:, None] >> np.arange(LEAVES) & 1
    places: PerByte = bits.argmin(axis=1)
    return places
