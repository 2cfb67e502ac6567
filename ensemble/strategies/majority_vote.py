"""One vote a member."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool

from ensemble.fusion import CLASS_AXIS, Fusion, by_pieces
from ensemble.strategies.mean import total
from evaluation.ground.arrays import Map, Maps

TIE_BREAK = 0.5
"""What the mean probability counts beside one vote; below 1 it never overturns a majority."""


def majority_vote() -> Fusion:
    """Give each class its share of the members' votes; a member votes for its most probable class.

    A tie goes to the class with the higher mean probability, and if that ties as well, to the
    lowest class. To that end the mean probability is added as half a vote more, so the result is
    close to the share of votes but not equal to it.
    """
    return MajorityVote()


@dataclass(frozen=True)
class MajorityVote:
    """The share of the votes that each class gets."""

    def __call__(self, maps: Maps) -> Map:
        """Fuse."""
        return by_pieces(maps, self._scores)

    def _scores(self, maps: Maps) -> Map:
        scores = total(maps)
        scores *= np.float32(TIE_BREAK / len(maps))
        votes = np.zeros(scores.shape, np.uint8 if len(maps) < 256 else np.uint32)
        for one in maps:
            votes += guesses(one).view(np.uint8)
        scores += votes
        return scores


def guesses(one: Map) -> Bool[np.ndarray, "picture class row col"]:
    """Mark the most probable class of each pixel; of equal ones, the lowest."""
    marked: Bool[np.ndarray, "picture class row col"] = one == one.max(
        axis=CLASS_AXIS, keepdims=True
    )
    taken = marked[:, 0].copy()
    for label in range(1, one.shape[CLASS_AXIS]):
        # On booleans "greater" is "and not".
        np.greater(marked[:, label], taken, out=marked[:, label])
        np.logical_or(taken, marked[:, label], out=taken)
    return marked
