"""SIMPLE: drop the members that disagree with the vote, and vote again."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

import numpy as np
from jaxtyping import Bool, Float, Integer
from pydantic import Field

from ensemble.fusion import (
    Blocks,
    Fusion,
    LearnedFusion,
    PixelwiseFusion,
    ScoredLabels,
    scored_labels,
)
from ensemble.strategies.votes import one_hot_votes
from ensemble.vote_patterns import VotePatterns, vote_patterns
from evaluation.core.errors import BadMaps
from evaluation.core.types import Map, Maps

MIN_MEMBERS = 3
"""Of two members the one of higher weight decides alone, so at least three are kept."""

Weights = Float[np.ndarray, "member"]
Kept = Bool[np.ndarray, "member"]
Estimate = Integer[np.ndarray, "combination"]


def simple(
    classes: int, ignore: int | None, *, alpha: Annotated[float, Field(ge=0, le=1000)] = 1.0
) -> LearnedFusion:
    """Vote, drop the members that agree least with the vote, and vote again (SIMPLE).

    A member's performance is its Dice coefficient with the vote, averaged over the scored classes
    that either predicts; members below the mean by more than `alpha` standard deviations are
    dropped, and the others vote with their performance as weight. It ends when no member is
    dropped, or when fewer than three would be left. The target only decides which pixels are
    scored: the majority of members must be right more often than not.

    Args:
        ignore: the class whose pixels are left out of the fit.
        alpha: how far below the mean a member may be; 0 drops about half of them each time.

    References:
        Langerak et al., "Label fusion in atlas-based segmentation using a selective and iterative
        method for performance level estimation (SIMPLE)", IEEE Transactions on Medical Imaging
        2010.

    Examples:
        The last of four members disagrees with the others everywhere.

        >>> from ensemble.fusion import TrainingBlock
        >>> labels = np.array([[0, 1, 1, 0]] * 3 + [[1, 0, 0, 1]])
        >>> maps = np.eye(2, dtype=np.float32)[labels].transpose(0, 2, 1)[:, None, :, None]
        >>> fusion = simple(2, None).fit([TrainingBlock(maps, labels[:1, None])])
        >>> fusion.weights.round(2)
        array([0.33, 0.33, 0.33, 0.  ], dtype=float32)
    """

    def fit(blocks: Blocks) -> Fusion:
        patterns = vote_patterns(blocks, classes=classes, ignore=ignore)
        scored = scored_labels(classes, ignore)
        performance, kept = _select(patterns, classes, scored, alpha)
        weights = np.where(kept, performance, 0)
        # If no member has any performance, all kept ones vote equally.
        weights = weights if weights.any() else kept.astype(float)
        return WeightedVote((weights / weights.sum()).astype(np.float32))

    return LearnedFusion(fit)


@dataclass(frozen=True)
class WeightedVote(PixelwiseFusion):
    """The share of the votes of each class, each member's vote with its weight.

    Args:
        weights: one per member; they sum to 1.
    """

    weights: Weights

    def of_members(self, members: Sequence[int]) -> Fusion:
        """Return the vote of some of the members.

        Raises:
            BadMaps: all weights are 0.
        """
        weights = self.weights[list(members)]
        if not weights.any():
            raise BadMaps("all of these have weight 0")
        return WeightedVote(weights / weights.sum())

    def _scores(self, maps: Maps) -> Map:
        votes: Map = np.zeros(maps.shape[1:], np.float32)
        for one, weight in zip(maps, self.weights, strict=True):
            if weight:
                votes += one_hot_votes(one) * weight
        return votes


def _select(
    patterns: VotePatterns, classes: int, scored: ScoredLabels, alpha: float
) -> tuple[Weights, Kept]:
    """Return the performance of each member, and which members are kept."""
    members = len(patterns.labels)
    kept, performance = np.ones(members, bool), np.ones(members)
    while True:
        estimate = _vote(patterns, np.where(kept, performance, 0), classes)
        performance = _dice(patterns, estimate, classes, scored)
        of_kept = performance[kept]
        good = kept & (performance >= of_kept.mean() - alpha * of_kept.std())
        if good.sum() < MIN_MEMBERS or (good == kept).all():
            return performance, kept
        kept = good


def _vote(patterns: VotePatterns, weights: Weights, classes: int) -> Estimate:
    votes = np.zeros((len(patterns.counts), classes))
    rows = np.arange(len(patterns.counts))
    for labels, weight in zip(patterns.labels, weights, strict=True):
        votes[rows, labels] += weight
    estimate: Estimate = votes.argmax(axis=1)
    return estimate


def _dice(
    patterns: VotePatterns, estimate: Estimate, classes: int, scored: ScoredLabels
) -> Weights:
    counts, estimated = patterns.counts, np.bincount(estimate, patterns.counts, classes)
    performance = np.empty(len(patterns.labels))
    for member, labels in enumerate(patterns.labels):
        both = np.bincount(labels, counts * (labels == estimate), classes)[scored]
        total = (np.bincount(labels, counts, classes) + estimated)[scored]
        occurs = total > 0
        performance[member] = (2 * both[occurs] / total[occurs]).mean() if occurs.any() else 0
    return performance
