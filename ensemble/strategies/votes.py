"""One vote a member.

Each class decided by the members that know it.
"""

from dataclasses import dataclass
from typing import Annotated, Literal

import numpy as np
from jaxtyping import Bool, Float
from pydantic import Field

from ensemble.fusion import (
    CLASS_AXIS,
    SMALLEST,
    Blocks,
    Fusion,
    LearnedFusion,
    by_pieces,
)
from ensemble.strategies.means import total
from evaluation.core.classes import UNLABELLED
from evaluation.core.errors import BadData
from evaluation.core.types import Map, Maps

TIE_BREAK = 1 / 128
"""What the winner of a tie gets beside its share of the votes: two steps of a uint8 store, so that
it stays ahead there too."""

Marked = Bool[np.ndarray, "image class row col"]


def majority_vote(
    *, ties: Literal["mean_probability", "first_member", "lowest"] = "mean_probability"
) -> Fusion:
    """Give each class its share of the members' votes; a member votes for its most probable class.

    A member in doubt between classes votes for the lowest. The winner of a tie gets 1/128 more than
    its share, before the shares are made to sum to 1 again; elsewhere they are what was counted.

    Args:
        ties: which of the classes with the most votes wins. `mean_probability`: the most probable
            on average, of equal ones the lowest. `first_member`: the choice of the first member
            that voted for any of them. `lowest`: the lowest; as that is where argmax finds it,
            nothing is added.
    """
    return MajorityVote(ties)


@dataclass(frozen=True)
class MajorityVote:
    """The share of the votes that each class gets, with a winner wherever some tie."""

    ties: str

    def __call__(self, maps: Maps) -> Map:
        """Fuse."""
        return by_pieces(maps, self._scores)

    def _scores(self, maps: Maps) -> Map:
        votes = np.zeros(maps.shape[1:], np.uint8 if len(maps) < 256 else np.uint32)
        for one in maps:
            votes += preds(one).view(np.uint8)
        scores: Map = votes.astype(np.float32)
        tied = votes == votes.max(axis=CLASS_AXIS, keepdims=True)
        if self.ties != "lowest" and _several(tied):
            tied &= tied.sum(axis=CLASS_AXIS, keepdims=True, dtype=np.uint8) > 1
            winner = preds(self._rank(maps) * tied) & tied
            scores += winner * np.float32(len(maps) * TIE_BREAK)
        return scores

    def _rank(self, maps: Maps) -> Map:
        """Score the classes; the winner is the highest, and above 0 where anybody voted for it."""
        if self.ties == "mean_probability":
            return total(maps)
        small = np.uint8 if len(maps) < 256 else np.uint32
        rank = np.zeros(maps.shape[1:], small)
        for place, one in enumerate(maps):
            np.maximum(rank, preds(one) * small(len(maps) - place), out=rank)
        ranked: Map = rank.astype(np.float32)
        return ranked


def preds(one: Map) -> Marked:
    """Mark the most probable class of each pixel; of equal ones, the lowest."""
    # Twice as fast as finding its number first and comparing that with each class.
    marked: Marked = one == one.max(axis=CLASS_AXIS, keepdims=True)
    if _several(marked):
        taken = marked[:, 0].copy()
        for marks in marked.swapaxes(0, 1)[1:]:
            np.greater(marks, taken, out=marks)
            taken |= marks
    return marked


def _several(marked: Marked) -> bool:
    """Tell whether any pixel has more than one mark; each has one at least."""
    return bool(np.count_nonzero(marked) > marked[:, 0].size)


ONE_VS_REST = "one_vs_rest"
HALF = 0.5
"""Where a specialist says yes."""

Weights = Float[np.ndarray, "member class"]


def per_class_vote(
    classes: int,
    ignore: int | None,
    kinds: tuple[str, ...],
    *,
    votes: Literal["soft", "hard"] = "soft",
    power: Annotated[float, Field(ge=0)] = 1.0,
) -> LearnedFusion:
    """Score each class by the members' votes for it, weighted by their held-out IoU for that class.

    A member of full maps votes for every class; a specialist votes on its class alone, for or
    against. Within a class the weights sum to 1, so that a class in which all members are poor is
    not given away to one in which all are good. A class for which no member has an IoU above 0
    (also the ignored one, which is never scored) is decided by all members alike.

    Args:
        classes: how many classes there are.
        ignore: the class whose pixels are not learned from.
        kinds: one a member.
        votes: `soft` votes are probabilities, `hard` ones yes or no (the most probable class; of a
            specialist, above one half). Where hard votes name no class, soft ones decide.
        power: weights are the IoU to this power; 0 weighs all alike that know a class at all, and
            large ones leave a class to the best.
    """

    def fit(blocks: Blocks) -> Fusion:
        return PerClassVote(_shares(_iou(blocks, classes, ignore, kinds), power), kinds, votes)

    return LearnedFusion(fit)


@dataclass(frozen=True)
class PerClassVote:
    """Votes with a weight for each member and class; for a class, they sum to 1."""

    weights: Weights
    kinds: tuple[str, ...]
    votes: str

    def __call__(self, maps: Maps) -> Map:
        """Fuse."""
        return by_pieces(maps, self._scores)

    def _scores(self, maps: Maps) -> Map:
        scores = self._weighed(maps, self.votes)
        undecided = scores.max(axis=CLASS_AXIS, keepdims=True) < SMALLEST
        if np.any(undecided):
            soft = self._weighed(maps, "soft")
            # Specialists may all say no, for certain: then nothing is known.
            soft += soft.max(axis=CLASS_AXIS, keepdims=True) < SMALLEST
            np.copyto(scores, soft, where=undecided)
        return scores

    def _weighed(self, maps: Maps, votes: str) -> Map:
        scores: Map = np.zeros(maps.shape[1:], np.float32)
        weighed = np.empty_like(scores)
        for one, kind, weights in zip(maps, self.kinds, self.weights, strict=True):
            ballots = one if votes == "soft" else _said_yes(one, kind)
            scores += np.multiply(ballots, weights[:, None, None], out=weighed)
        return scores


def _said_yes(one: Map, kind: str) -> Bool[np.ndarray, "image class row col"]:
    return one > HALF if kind == ONE_VS_REST else preds(one)


def _iou(blocks: Blocks, classes: int, ignore: int | None, kinds: tuple[str, ...]) -> Weights:
    """Return the IoU of each member for each class, over all scored pixels; 0 for an absent class.

    A specialist's IoU is that of its own yes against its class, the others not asked.
    """
    both, either = np.zeros((2, len(kinds), classes))
    for maps, target, _ in blocks:
        kept = (
            target != UNLABELLED if ignore is None else (target != UNLABELLED) & (target != ignore)
        )
        true = np.stack([target == label for label in range(classes)], axis=1) & kept[:, None]
        for member, kind in enumerate(kinds):
            pred = _said_yes(maps[member], kind) & kept[:, None]
            both[member] += (pred & true).sum(axis=(0, 2, 3))
            either[member] += (pred | true).sum(axis=(0, 2, 3))
    if not either.any():
        raise BadData("the target to fit on has no scored pixel; give images that have some")
    return both / np.maximum(either, 1)


def _shares(iou: Weights, power: float) -> Weights:
    """Weigh members within each class; all alike where none has any IoU."""
    # Relative to the best, so that no power makes all of them vanish.
    raised = np.where(iou > 0, (iou / np.maximum(iou.max(axis=0), 1e-300)) ** power, 0)
    raised[:, ~raised.any(axis=0)] = 1
    shares: Weights = (raised / raised.sum(axis=0)).astype(np.float32)
    return shares
