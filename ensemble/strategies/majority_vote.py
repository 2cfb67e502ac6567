"""One vote a member."""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Bool

from ensemble.fusion import CLASS_AXIS, Fusion, by_pieces
from ensemble.strategies.mean import total
from evaluation.ground.arrays import Map, Maps

TIE_BREAK = 1 / 128
"""What the winner of a tie gets beside its share of the votes: two steps of a uint8 store, so that
it stays ahead there too."""

Marked = Bool[np.ndarray, "picture class row col"]


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
            votes += guesses(one).view(np.uint8)
        scores: Map = votes.astype(np.float32)
        tied = votes == votes.max(axis=CLASS_AXIS, keepdims=True)
        if self.ties != "lowest" and _several(tied):
            tied &= tied.sum(axis=CLASS_AXIS, keepdims=True, dtype=np.uint8) > 1
            winner = guesses(self._rank(maps) * tied) & tied
            scores += winner * np.float32(len(maps) * TIE_BREAK)
        return scores

    def _rank(self, maps: Maps) -> Map:
        """Score the classes; the winner is the highest, and above 0 where anybody voted for it."""
        if self.ties == "mean_probability":
            return total(maps)
        small = np.uint8 if len(maps) < 256 else np.uint32
        rank = np.zeros(maps.shape[1:], small)
        for place, one in enumerate(maps):
            np.maximum(rank, guesses(one) * small(len(maps) - place), out=rank)
        ranked: Map = rank.astype(np.float32)
        return ranked


def guesses(one: Map) -> Marked:
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
