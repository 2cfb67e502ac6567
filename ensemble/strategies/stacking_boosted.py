"""Stacking by gradient-boosted trees: what one member means may depend on what others say.

Boosted trees as plain arrays: taken from scikit-learn, evaluated a row of pixels at a time.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any

import numpy as np
from jaxtyping import Float, Integer
from pydantic import Field
from scipy.special import expit, logit
from threadpoolctl import threadpool_limits

from ensemble.fusion import (
    SMALLEST,
    Blocks,
    Fusion,
    LearnedFusion,
    by_pieces,
)
from ensemble.pixel_context import ContextFeatures
from ensemble.sampling import (
    PerPixel,
    PerPixelMaps,
    PixelSample,
    sample,
)
from ensemble.strategies.stacking import Labelled, scored_classes
from evaluation.core.types import (
    Array,
    Images,
    Map,
    Maps,
)

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


PIECE_PIXELS = 1 << 13
"""Worked on at a time: their features and what lies between the nodes stay in the cache."""

BINS = 255
STEPS = 12
WIDEST = 10.5
"""Probabilities are told apart by steps of 1/12 in their logit, between -10.5 and 10.5: in at most
`BINS` steps. Quantiles, scikit-learn's way, nearly all lie close to 0 and 1 where members are good,
and none where it is decided."""

PerTree = Float[np.ndarray, "tree"]


def stacking_boosted(
    classes: int,
    ignore: int | None,
    *,
    rounds: Annotated[int, Field(ge=1)] = 50,
    leaves: Annotated[int, Field(ge=2, le=LEAVES)] = LEAVES,
    rate: Annotated[float, Field(gt=0, le=1)] = 0.1,
    neighbours: Annotated[int, Field(ge=0)] = 0,
    intensity: bool = False,
    sample_pixels: Annotated[int, Field(ge=1)] = 100_000,
    balance: Annotated[float, Field(ge=0, le=1)] = 0.0,
    floor: Annotated[float, Field(ge=SMALLEST, lt=1)] = 1e-6,
    seed: Annotated[int, Field(ge=0)] = 0,
) -> LearnedFusion:
    """Learn trees over all members' probabilities (scikit-learn's histogram gradient boosting).

    A regression weighs a member's word alike whatever the others say; a tree may trust it only
    where two others doubt. It takes some eighty times as long to fuse as the mean.

    As by `stacking`, the ignored class gets probability 0 everywhere.

    Args:
        classes: how many classes there are.
        ignore: the class whose pixels are not learned from.
        rounds: trees for each class.
        leaves: of a tree, at most.
        rate: share of a tree's advice that is taken.
        neighbours: see `stacking`.
        intensity: see `stacking`.
        sample_pixels: how many pixels to learn from, about the same number of each class, weighed
            back to the true shares.
        balance: 0 counts classes as often as they occur, 1 all alike.
        floor: mean probabilities around a pixel below this are raised to it before the logarithm.
        seed: of the draw of pixels, and of the binning.
    """
    around = ContextFeatures(neighbours, intensity, floor)

    def fit(blocks: Blocks) -> Fusion:
        drawn = sample(
            blocks,
            classes=classes,
            ignore=ignore,
            pixels=sample_pixels,
            balance=balance,
            seed=seed,
            beside=around.of if around.count(classes) else None,
        )
        scored = scored_classes(drawn.counts, ignore, "stacking_boosted")
        trees, start = _grown(drawn, rounds=rounds, leaves=leaves, rate=rate, seed=seed)
        nodes = (trees.feature, trees.threshold, trees.left, trees.value)
        return StackingBoosted(*nodes, start, scored, floor, neighbours, int(intensity))

    return LearnedFusion(fit, needs_images=intensity)


@dataclass(frozen=True)
class StackingBoosted:
    """A softmax over sums of trees; the first fields are those of `Trees`.

    Args:
        start: what each class has before the first round.
        scored: the labels of the scored classes; others get probability 0.
        floor: see `stacking_boosted`.
        neighbours: see `stacking`.
        intensity: 1 where the image is looked at, else 0.
    """

    feature: Places
    threshold: Thresholds
    left: Places
    value: Values
    start: PerTree
    scored: Labelled
    floor: float
    neighbours: int
    intensity: int

    @property
    def needs_images(self) -> bool:
        """Whether the grey value is a feature."""
        return bool(self.intensity)

    def __call__(self, maps: Maps, images: Images | None = None) -> Map:
        """Fuse."""
        around = ContextFeatures(self.neighbours, self.needs_images, self.floor)
        if not around.count(maps.shape[2]):
            return by_pieces(maps, self._scores)
        return by_pieces(maps, self._scores, around(maps, images))

    def _scores(self, maps: Maps, *beside: Array) -> Map:
        _, images, classes, rows, cols = maps.shape
        rows_of = [maps.swapaxes(0, 1).reshape(images, -1, rows * cols)]
        rows_of += [features.reshape(images, -1, rows * cols) for features in beside]
        scores: Map = np.zeros((images, classes, rows * cols), np.float32)
        for image in range(images):
            features = np.concatenate([part[image] for part in rows_of])
            for first in range(0, rows * cols, PIECE_PIXELS):
                piece = slice(first, first + PIECE_PIXELS)
                scores[image, self.scored, piece] = self._odds(features[:, piece])
        return scores.reshape(images, classes, rows, cols)

    def _odds(self, features: Float[np.ndarray, "feature pixel"]) -> Array:
        trees = Trees(self.feature, self.threshold, self.left, self.value)
        totals = trees.totals(features) + self.start[:, None]
        # Of two classes, scikit-learn's trees are about the second.
        first = np.zeros((len(self.scored) - len(totals), totals.shape[1]), np.float32)
        logits = np.concatenate([first, totals])
        odds: Array = np.exp(logits - logits.max(axis=0))
        return odds


def on_grid(maps: PerPixelMaps) -> PerPixelMaps:
    """Round probabilities in equal steps of their logit."""
    logits = np.clip(logit(maps, dtype=np.float64), -WIDEST, WIDEST)
    rounded: PerPixelMaps = expit(np.round(logits * STEPS) / STEPS).astype(np.float32)
    return rounded


def _at_quantiles(feature: PerPixel) -> Float[np.ndarray, "pixel 1"]:
    """Round up to quantiles; scikit-learn's own, which are weighted, take minutes."""
    found = np.unique(np.quantile(feature, np.linspace(0, 1, BINS)).astype(np.float32))
    return found[np.searchsorted(found, feature)][:, None]


def _grown(
    drawn: PixelSample, *, rounds: int, leaves: int, rate: float, seed: int
) -> tuple[Trees, PerTree]:
    from sklearn.ensemble import HistGradientBoostingClassifier

    found = np.unique(drawn.target)
    if len(found) == 1:
        return flattened([], 1), np.zeros(1, np.float32)
    model = HistGradientBoostingClassifier(
        max_iter=rounds,
        max_leaf_nodes=leaves,
        learning_rate=rate,
        max_bins=BINS,
        early_stopping=False,
        random_state=seed,
    )
    pixels = len(drawn.target)
    features = np.concatenate(
        [on_grid(drawn.maps).reshape(pixels, -1), *map(_at_quantiles, drawn.beside.T)], axis=1
    )
    # Beside training, threads that wait for each other took ten times as long as one.
    with threadpool_limits(1):
        model.fit(features, drawn.target, drawn.weight * pixels)
    start = model._baseline_prediction.ravel().astype(np.float32)
    return flattened(model._predictors, len(start)), start
