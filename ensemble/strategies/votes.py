"""Votes: of all members alike, or per class weighted by the members' IoU."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Literal

import numpy as np
from jaxtyping import Bool, Float
from pydantic import Field

from ensemble.fusion import (
    CLASS_AXIS,
    SMALLEST,
    AnyMembers,
    Blocks,
    Fusion,
    LearnedFusion,
    PixelwiseFusion,
    check_any_scored,
)
from ensemble.strategies.means import sum_members
from evaluation.confusion import scored_pixels
from evaluation.core.types import Map, Maps

TIE_BREAK = 1 / 128
"""What the winner of a tie gets in addition to its share of the votes: two steps of a uint8 store,
so that it stays ahead there too."""

ONE_VS_REST = "one_vs_rest"
YES = 0.5
"""A specialist votes for its class above this probability."""

OneHotVotes = Bool[np.ndarray, "image class row col"]
Weights = Float[np.ndarray, "member class"]


def majority_vote(
    *, ties: Literal["mean_probability", "first_member", "lowest"] = "mean_probability"
) -> Fusion:
    """Give each class its share of the members' votes; a member votes for its most probable class.

    A member whose highest classes tie votes for the lowest of them. The winner of a tie of votes
    gets 1/128 more than its share, before the shares are renormalised; elsewhere they are exact.

    Args:
        ties: which of the classes with the most votes wins. `mean_probability`: the most probable
            on average, then the lowest. `first_member`: the choice of the first member that voted
            for any of them. `lowest`: the lowest; as argmax returns that anyway, nothing is added.

    Examples:
        >>> a, b, c = np.array([[0.6, 0.4], [0.6, 0.4], [0, 1]], np.float32)
        >>> majority_vote()(np.stack([a, b, c])[:, None, :, None, None]).ravel().round(2)
        array([0.67, 0.33], dtype=float32)
    """
    return MajorityVote(ties)


@dataclass(frozen=True)
class MajorityVote(PixelwiseFusion, AnyMembers):
    """The share of the votes of each class, with a winner wherever some tie."""

    ties: str

    def _scores(self, maps: Maps) -> Map:
        votes = np.zeros(maps.shape[1:], np.uint8 if len(maps) < 256 else np.uint32)
        for one in maps:
            votes += one_hot_votes(one).view(np.uint8)
        scores: Map = votes.astype(np.float32)
        tied = votes == votes.max(axis=CLASS_AXIS, keepdims=True)
        if self.ties != "lowest" and _any_tie(tied):
            tied &= tied.sum(axis=CLASS_AXIS, keepdims=True, dtype=np.uint8) > 1
            winner = one_hot_votes(self._rank(maps) * tied) & tied
            scores += winner * np.float32(len(maps) * TIE_BREAK)
        return scores

    def _rank(self, maps: Maps) -> Map:
        """Rank the classes; the highest wins, and one that has a vote is above 0."""
        if self.ties == "mean_probability":
            return sum_members(maps)
        small = np.uint8 if len(maps) < 256 else np.uint32
        rank = np.zeros(maps.shape[1:], small)
        for index, one in enumerate(maps):
            np.maximum(rank, one_hot_votes(one) * small(len(maps) - index), out=rank)
        ranked: Map = rank.astype(np.float32)
        return ranked


def one_hot_votes(probs: Map) -> OneHotVotes:
    """Mark the most probable class of each pixel; ties go to the lowest."""
    # Twice as fast as finding its index first and comparing that with each class.
    votes: OneHotVotes = probs == probs.max(axis=CLASS_AXIS, keepdims=True)
    if _any_tie(votes):
        taken = votes[:, 0].copy()
        for of_class in votes.swapaxes(0, 1)[1:]:
            np.greater(of_class, taken, out=of_class)
            taken |= of_class
    return votes


def _any_tie(votes: OneHotVotes) -> bool:
    """Return whether any pixel has more than one vote; each has at least one."""
    return bool(np.count_nonzero(votes) > votes[:, 0].size)


def per_class_vote(
    classes: int,
    ignore: int | None,
    kinds: tuple[str, ...],
    *,
    votes: Literal["soft", "hard"] = "soft",
    power: Annotated[float, Field(ge=0, le=1000)] = 1.0,
) -> LearnedFusion:
    """Score each class by the members' votes for it, weighted by their held-out IoU of that class.

    A member of full maps votes for every class; a specialist votes on its class alone, for or
    against. Within a class the weights sum to 1, so that a class in which all members are poor is
    not lost to one in which all are good. A class for which no member has an IoU above 0 (also the
    ignored one, which is never scored) is decided by all members equally.

    Args:
        ignore: the class whose pixels are left out of the fit.
        votes: `soft` votes are probabilities, `hard` ones yes or no (the most probable class; of a
            specialist, above one half). Where hard votes name no class, soft ones decide.
        power: weights are the IoU to this power; 0 weighs all members equally that know a class at
            all, and large ones leave a class to the best.

    Examples:
        The first member confuses class 1 with class 0; the second does not.

        >>> from ensemble.fusion import TrainingBlock
        >>> maps = np.array([[[0.9, 0.8], [0.1, 0.2]], [[0.6, 0.3], [0.4, 0.7]]], np.float32)
        >>> maps = maps[:, None, :, None]
        >>> strategy = per_class_vote(2, None, ("probabilities",) * 2)
        >>> strategy.fit([TrainingBlock(maps, np.array([[[0, 1]]]))]).weights.round(2)
        array([[0.33, 0.  ],
               [0.67, 1.  ]], dtype=float32)
    """

    def fit(blocks: Blocks) -> Fusion:
        return PerClassVote(_weights(_iou(blocks, classes, ignore, kinds), power), kinds, votes)

    return LearnedFusion(fit)


@dataclass(frozen=True)
class PerClassVote(PixelwiseFusion):
    """Votes with a weight per member and class; within a class they sum to 1."""

    weights: Weights
    kinds: tuple[str, ...]
    votes: str

    def of_members(self, members: Sequence[int]) -> Fusion:
        """Return the votes of some of the members, as if the others were not there."""
        kinds = tuple(self.kinds[member] for member in members)
        return PerClassVote(_share(self.weights[list(members)]), kinds, self.votes)

    def _scores(self, maps: Maps) -> Map:
        scores = self._weighted(maps, self.votes)
        undecided = scores.max(axis=CLASS_AXIS, keepdims=True) < SMALLEST
        if np.any(undecided):
            soft = self._weighted(maps, "soft")
            # Where all specialists are certain of "no", nothing is known.
            soft += soft.max(axis=CLASS_AXIS, keepdims=True) < SMALLEST
            np.copyto(scores, soft, where=undecided)
        return scores

    def _weighted(self, maps: Maps, votes: str) -> Map:
        scores: Map = np.zeros(maps.shape[1:], np.float32)
        weighted = np.empty_like(scores)
        for one, kind, weights in zip(maps, self.kinds, self.weights, strict=True):
            ballots = one if votes == "soft" else _hard_votes(one, kind)
            scores += np.multiply(ballots, weights[:, None, None], out=weighted)
        return scores


def _hard_votes(probs: Map, kind: str) -> OneHotVotes:
    return probs > YES if kind == ONE_VS_REST else one_hot_votes(probs)


def _iou(blocks: Blocks, classes: int, ignore: int | None, kinds: tuple[str, ...]) -> Weights:
    """Return the IoU of each member for each class over all scored pixels; 0 for an absent class.

    A specialist's IoU is that of its own yes against its class, without the other classes.
    """
    intersection, union = np.zeros((2, len(kinds), classes))
    for maps, target, _ in blocks:
        scored = scored_pixels(target, ignore)[:, None]
        true = np.stack([target == label for label in range(classes)], axis=1) & scored
        for member, kind in enumerate(kinds):
            pred = _hard_votes(maps[member], kind) & scored
            intersection[member] += (pred & true).sum(axis=(0, 2, 3))
            union[member] += (pred | true).sum(axis=(0, 2, 3))
    check_any_scored(union.any())
    return intersection / np.maximum(union, 1)


def _weights(iou: Weights, power: float) -> Weights:
    """Weigh members within each class; equally where none has any IoU."""
    # Relative to the best, so that no power makes all of them vanish.
    powers = np.where(iou > 0, (iou / np.maximum(iou.max(axis=0), 1e-300)) ** power, 0)
    return _share(powers)


def _share(weights: Weights) -> Weights:
    """Return weights that sum to 1 within each class; equal ones where all are 0."""
    weights = np.where(weights.any(axis=0), weights, 1)
    shares: Weights = (weights / weights.sum(axis=0)).astype(np.float32)
    return shares
