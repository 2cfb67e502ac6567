"""Stacking by gradient-boosted trees: the weight of one member may depend on the others.

The trees are fitted by scikit-learn, stored as plain arrays, and evaluated on rows of pixels.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any

import numpy as np
from jaxtyping import Float, Integer
from pydantic import Field
from scipy.special import expit, logit

from ensemble.fusion import Blocks, Floor, Fusion, LearnedFusion, ScoredLabels
from ensemble.pixel_context import ContextFeatures, ContextFusion
from ensemble.sampling import (
    Balance,
    PerPixel,
    PerPixelMaps,
    PixelSample,
    SamplePixels,
    check_all_scored_occur,
    draw_pixels,
)
from evaluation.core.seeds import Seed, seed_32_bits
from evaluation.core.types import Array, Map, Maps

MAX_LEAVES = 8
"""Per tree: one bit each in a byte."""

PIECE_PIXELS = 1 << 13
"""Processed at a time: their features and the masks of the nodes stay in the cache."""

BINS = 255
STEPS_PER_LOGIT = 12
MAX_LOGIT = 10.5
"""Probabilities are binned by steps of 1/12 in their logit, between -10.5 and 10.5: at most `BINS`
bins. Quantiles, scikit-learn's way, almost all lie close to 0 and 1 where members are good, and
none where the decision falls."""

Values = Float[np.ndarray, "round tree leaf"]
PerByte = Integer[np.ndarray, "byte"]
Nodes = Integer[np.ndarray, "round tree node"]
Thresholds = Float[np.ndarray, "round tree node"]
PerTree = Float[np.ndarray, "tree"]
PixelFeatures = Float[np.ndarray, "feature pixel"]


def stacking_boosted(
    classes: int,
    ignore: int | None,
    *,
    rounds: Annotated[int, Field(ge=1, le=100_000)] = 50,
    leaves: Annotated[int, Field(ge=2, le=MAX_LEAVES)] = MAX_LEAVES,
    rate: Annotated[float, Field(gt=0, le=1)] = 0.1,
    neighbours: Annotated[int, Field(ge=0, le=1000)] = 0,
    intensity: bool = False,
    sample_pixels: SamplePixels = 100_000,
    balance: Balance = 0.0,
    floor: Floor = 1e-6,
    seed: Seed = 0,
) -> LearnedFusion:
    """Fit trees on all members' probabilities (scikit-learn's histogram gradient boosting).

    A regression weighs a member equally whatever the others predict; a tree may trust it only where
    two others are unsure. Fusing takes some eighty times as long as the mean.

    As in `stacking`, the ignored class gets probability 0 everywhere.

    Args:
        ignore: the class whose pixels are left out of the fit.
        rounds: trees per class.
        leaves: maximum number of leaves per tree.
        rate: learning rate.
        neighbours: radius in px of the square around a pixel whose mean probabilities (over all
            members, as logarithms) are features too; 0 uses the pixel alone.
        intensity: whether the image's grey value and its square are features too.
        sample_pixels: number of pixels to fit on, about as many of each class, weighted back to the
            true shares.
        balance: 0 weighs classes as often as they occur, 1 equally.
        floor: lower bound of mean probabilities around a pixel before the logarithm.
        seed: random seed of the sample and of the binning.

    Examples:
        A member that confuses two classes everywhere is corrected.

        >>> from ensemble.fusion import TrainingBlock
        >>> target = np.arange(64).reshape(1, 8, 8) % 2
        >>> wrong = np.where(target[:, None] == np.arange(2)[:, None, None], 0.2, 0.8)
        >>> maps = wrong[None].astype(np.float32)
        >>> fusion = stacking_boosted(2, None, rounds=5).fit([TrainingBlock(maps, target)])
        >>> (fusion(maps).argmax(axis=1) == target).all()
        np.True_
    """
    context = ContextFeatures(neighbours, intensity, floor)

    def fit(blocks: Blocks) -> Fusion:
        sample = draw_pixels(
            blocks,
            classes=classes,
            ignore=ignore,
            pixels=sample_pixels,
            balance=balance,
            seed=seed,
            extra_features=context.compute,
        )
        scored = check_all_scored_occur(sample.counts, ignore, "stacking_boosted")
        trees, start = _fit_trees(sample, rounds=rounds, leaves=leaves, rate=rate, seed=seed)
        nodes = (trees.feature, trees.threshold, trees.left, trees.value)
        return StackingBoosted(*nodes, start, scored, floor, neighbours, int(intensity))

    return LearnedFusion(fit, needs_images=intensity)


@dataclass(frozen=True)
class StackingBoosted(ContextFusion):
    """A softmax over sums of trees; the first fields are those of `Trees`.

    A pixel's features are the probabilities of each member in turn, those of all classes together,
    then its `ContextFeatures`.

    Args:
        start: what each tree of a round starts from: the score of a scored class before the first
            round. Of two classes there is one tree, that of the second; the first has score 0.
        scored: labels of the scored classes; others get probability 0.
        floor: see `stacking_boosted`.
    """

    feature: Nodes
    threshold: Thresholds
    left: Nodes
    value: Values
    start: PerTree
    scored: ScoredLabels
    floor: float
    neighbours: int
    intensity: int

    def _scores(self, maps: Maps, *context: Array) -> Map:
        _, images, classes, rows, cols = maps.shape
        parts = [maps.swapaxes(0, 1).reshape(images, -1, rows * cols)]
        parts += [features.reshape(images, -1, rows * cols) for features in context]
        scores: Map = np.zeros((images, classes, rows * cols), np.float32)
        for image in range(images):
            features = np.concatenate([part[image] for part in parts])
            for first in range(0, rows * cols, PIECE_PIXELS):
                piece = slice(first, first + PIECE_PIXELS)
                scores[image, self.scored, piece] = self._odds(features[:, piece])
        return scores.reshape(images, classes, rows, cols)

    def _odds(self, features: PixelFeatures) -> Array:
        trees = Trees(self.feature, self.threshold, self.left, self.value)
        totals = trees.predict(features) + self.start[:, None]
        first = np.zeros((len(self.scored) - len(totals), totals.shape[1]), np.float32)
        logits = np.concatenate([first, totals])
        odds: Array = np.exp(logits - logits.max(axis=0))
        return odds


@dataclass(frozen=True)
class Trees:
    """Trees as conditions and the leaves that each condition excludes.

    Instead of sending pixels down a tree, all its conditions are evaluated on whole rows of pixels.
    A pixel that goes right at a node cannot end in a leaf on its left; the first leaf that is not
    excluded is the pixel's.

    Args:
        feature: index of the feature that a node compares.
        threshold: pixels above it go right; infinite where a tree has fewer nodes.
        left: bits of the leaves on a node's left.
        value: values of the leaves, from left to right.

    References:
        Lucchese et al., "QuickScorer: A Fast Algorithm to Rank Documents with Additive Ensembles of
        Regression Trees", SIGIR 2015.
    """

    feature: Nodes
    threshold: Thresholds
    left: Nodes
    value: Values

    def predict(self, features: PixelFeatures) -> Float[np.ndarray, "tree _"]:
        """Sum the trees' values over the rounds, for some thousands of pixels."""
        totals = np.zeros((self.feature.shape[1], features.shape[1]), np.float32)
        above = np.empty(features.shape[1], bool)
        excluded, bits = np.empty((2, features.shape[1]), np.uint8)
        first = _first_zero_bit()
        for each in zip(self.feature, self.threshold, self.left, self.value, strict=True):
            for total, feature, threshold, left, value in zip(totals, *each, strict=True):
                excluded[:] = 0
                for row, limit, leaves in zip(feature, threshold, left, strict=True):
                    np.greater(features[row], limit, out=above)
                    np.multiply(above.view(np.uint8), leaves, out=bits)
                    np.bitwise_or(excluded, bits, out=excluded)
                total += value[first][excluded]
        return totals


def compile_trees(rounds: Sequence[Sequence[Any]], trees: int) -> Trees:
    """Convert scikit-learn's predictors.

    Args:
        rounds: the predictors of each round, as `HistGradientBoostingClassifier` keeps them.
        trees: number of trees per round.
    """
    shape = (len(rounds), trees, MAX_LEAVES - 1)
    feature, left = np.zeros(shape, np.int32), np.zeros(shape, np.uint8)
    threshold = np.full(shape, np.inf, np.float32)
    value = np.zeros((len(rounds), trees, MAX_LEAVES), np.float32)
    for tree in np.ndindex(len(rounds), trees):
        nodes = rounds[tree[0]][tree[1]].nodes
        leaves, conditions = _walk(nodes, 0, 0)
        value[tree][: len(leaves)] = leaves
        for index, (node, excluded) in enumerate(conditions):
            feature[tree][index] = nodes[node]["feature_idx"]
            threshold[tree][index] = _round_down(nodes[node]["num_threshold"])
            left[tree][index] = excluded
    return Trees(feature, threshold, left, value)


def _walk(nodes: Any, node: int, before: int) -> tuple[list[float], list[tuple[int, int]]]:
    """Return the leaves under a node, and each inner node with the bits of its left leaves."""
    if nodes[node]["is_leaf"]:
        return [nodes[node]["value"]], []
    left, left_nodes = _walk(nodes, int(nodes[node]["left"]), before)
    right, right_nodes = _walk(nodes, int(nodes[node]["right"]), before + len(left))
    bits = ((1 << len(left)) - 1) << before
    return left + right, [(node, bits), *left_nodes, *right_nodes]


def _round_down(threshold: float) -> np.float32:
    """Round to float32 so that no float32 feature changes sides."""
    near = np.float32(threshold)
    return np.nextafter(near, np.float32(-np.inf)) if near > threshold else near


def _first_zero_bit() -> PerByte:
    """Return, for each byte, the index of its lowest bit that is 0; 255 occurs in no tree."""
    bits = np.arange(256)[:, None] >> np.arange(MAX_LEAVES) & 1
    indices: PerByte = bits.argmin(axis=1)
    return indices


def _fit_trees(
    sample: PixelSample, *, rounds: int, leaves: int, rate: float, seed: int
) -> tuple[Trees, PerTree]:
    from sklearn.ensemble import HistGradientBoostingClassifier
    from threadpoolctl import threadpool_limits

    if len(np.unique(sample.target)) == 1:
        return compile_trees([], 1), np.zeros(1, np.float32)
    model = HistGradientBoostingClassifier(
        max_iter=rounds,
        max_leaf_nodes=leaves,
        learning_rate=rate,
        max_bins=BINS,
        early_stopping=False,
        random_state=seed_32_bits(seed),
    )
    pixels = len(sample.target)
    probs = round_on_logit_grid(sample.maps).reshape(pixels, -1)
    extra = map(_round_to_quantiles, sample.extra_features.T)
    # While networks train, threads that wait for each other took ten times as long as one.
    with threadpool_limits(1):
        model.fit(np.concatenate([probs, *extra], axis=1), sample.target, sample.weight * pixels)
    # There is no public way to the trees: the tests compare ours with `predict_proba`.
    start = model._baseline_prediction.ravel().astype(np.float32)
    return compile_trees(model._predictors, len(start)), start


def round_on_logit_grid(maps: PerPixelMaps) -> PerPixelMaps:
    """Round probabilities in equal steps of their logit."""
    logits = np.clip(logit(maps, dtype=np.float64), -MAX_LOGIT, MAX_LOGIT)
    grid = np.round(logits * STEPS_PER_LOGIT) / STEPS_PER_LOGIT
    rounded: PerPixelMaps = expit(grid).astype(np.float32)
    return rounded


def _round_to_quantiles(feature: PerPixel) -> Float[np.ndarray, "pixel 1"]:
    """Round up to quantiles; scikit-learn's own, which are weighted, take minutes."""
    quantiles = np.unique(np.quantile(feature, np.linspace(0, 1, BINS)).astype(np.float32))
    return quantiles[np.searchsorted(quantiles, feature)][:, None]
