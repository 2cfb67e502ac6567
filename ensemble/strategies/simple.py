"""Selective and iterative performance level estimation: drop who disagrees, vote again."""

from dataclasses import dataclass
from typing import Annotated

import numpy as np
from jaxtyping import Bool, Float, Integer
from pydantic import Field

from ensemble.fusion import (
    Blocks,
    Fusion,
    LearnedFusion,
    by_pieces,
)
from ensemble.strategies.votes import preds
from ensemble.vote_patterns import VotePatterns, combinations
from evaluation.core.types import Map, Maps

FEWEST = 3
"""Of two members the one with more weight decides alone; so no fewer than three are kept."""

Weights = Float[np.ndarray, "member"]
Labelled = Integer[np.ndarray, "scored"]
Kept = Bool[np.ndarray, "member"]
Estimate = Integer[np.ndarray, "combination"]


def simple(
    classes: int, ignore: int | None, *, alpha: Annotated[float, Field(ge=0)] = 1.0
) -> LearnedFusion:
    """Vote, drop the members that agree least with the vote, and vote again (SIMPLE).

    A member's performance is its Dice coefficient with the vote, averaged over the scored classes
    that either names; those below the members' mean by more than `alpha` standard deviations are
    dropped, and the others vote with their performance as weight. It ends when nobody is dropped,
    or when fewer than three would be left. The target is not looked at, but for which pixels are
    scored: the majority of members must be right more often than not.

    Args:
        classes: how many classes there are.
        ignore: the class whose pixels are not learned from.
        alpha: how far below the mean a member may be; 0 drops about half of them each time.

    Source: Langerak et al., "Label fusion in atlas-based segmentation using a selective and
    iterative method for performance level estimation (SIMPLE)", IEEE Transactions on Medical
    Imaging 2010.
    """

    def fit(blocks: Blocks) -> Fusion:
        met = combinations(blocks, classes=classes, ignore=ignore)
        scored = np.array([label for label in range(classes) if label != ignore])
        performance, kept = _selected(met, classes, scored, alpha)
        weights = np.where(kept, performance, 0)
        # Members of no performance at all have an equal say.
        weights = weights if weights.any() else kept.astype(float)
        return WeightedVote((weights / weights.sum()).astype(np.float32))

    return LearnedFusion(fit)


@dataclass(frozen=True)
class WeightedVote:
    """The share of the votes that each class gets, each member's vote with its weight.

    Args:
        weights: one a member; they sum to 1.
    """

    weights: Weights

    def __call__(self, maps: Maps) -> Map:
        """Fuse."""
        return by_pieces(maps, self._scores)

    def _scores(self, maps: Maps) -> Map:
        votes: Map = np.zeros(maps.shape[1:], np.float32)
        for one, weight in zip(maps, self.weights, strict=True):
            if weight:
                votes += preds(one) * weight
        return votes


def _selected(
    met: VotePatterns, classes: int, scored: Labelled, alpha: float
) -> tuple[Weights, Kept]:
    """Return how well each member agrees with those that are kept, and who is kept."""
    members = len(met.preds)
    kept, performance = np.ones(members, bool), np.ones(members)
    while True:
        estimate = _vote(met, np.where(kept, performance, 0), classes)
        performance = _dice(met, estimate, classes, scored)
        among = performance[kept]
        good = kept & (performance >= among.mean() - alpha * among.std())
        if good.sum() < FEWEST or (good == kept).all():
            return performance, kept
        kept = good


def _vote(met: VotePatterns, weights: Weights, classes: int) -> Estimate:
    votes = np.zeros((len(met.times), classes))
    rows = np.arange(len(met.times))
    for predicted, weight in zip(met.preds, weights, strict=True):
        votes[rows, predicted] += weight
    estimate: Estimate = votes.argmax(axis=1)
    return estimate


def _dice(met: VotePatterns, estimate: Estimate, classes: int, scored: Labelled) -> Weights:
    named = np.bincount(estimate, met.times, classes)
    performance = np.empty(len(met.preds))
    for place, predicted in enumerate(met.preds):
        both = np.bincount(predicted, met.times * (predicted == estimate), classes)[scored]
        either = (np.bincount(predicted, met.times, classes) + named)[scored]
        occurs = either > 0
        performance[place] = (2 * both[occurs] / either[occurs]).mean() if occurs.any() else 0
    return performance
