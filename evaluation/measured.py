"""Candidates scored on the same pictures, with and without each group of them."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from evaluation.bootstrap import GroupSums, Interval, additive_sums, as_interval
from evaluation.ground.classes import Classes
from evaluation.iou import Protocol, Score
from evaluation.jackknife import LeftOut, leave_one_out, student_ends
from evaluation.scores import ScoredPictures


@dataclass(frozen=True)
class Measured:
    """What is known of candidates on one split.

    Args:
        sums: what each group adds to each candidate's score.
        scorer: what scores sums of it.
        ignore: the ignored class, or None.
        whole: the candidates' scores.
        left_out: each candidate's scores without each group.
    """

    sums: GroupSums
    scorer: Protocol
    ignore: int | None
    whole: tuple[Score, ...]
    left_out: tuple[Score, ...]

    @classmethod
    def of(
        cls, examined: Sequence[ScoredPictures], protocol: Protocol, ignore: int | None
    ) -> "Measured":
        """Score candidates on the same pictures."""
        counts = [one.counts for one in examined]
        sums, scorer = additive_sums(counts, examined[0].groups, protocol, ignore)
        whole = tuple(scorer(one.sum(axis=0), ignore) for one in sums)
        left_out = tuple(leave_one_out(one, scorer, ignore) for one in sums)
        return cls(sums, scorer, ignore, whole, left_out)

    @property
    def groups(self) -> int:
        """How many groups of pictures there are."""
        return int(self.sums.shape[1])

    @property
    def mious(self) -> Float[np.ndarray, " candidate"]:
        """The candidates' scores under the protocol."""
        return np.array([float(found.miou) for found in self.whole])

    def interval(self, place: int, level: float) -> Interval | None:
        """Return the interval of a candidate's score; None for one group, or nothing scored."""
        whole, left_out = self.whole[place], self.left_out[place]
        return _share(float(whole.miou), left_out.miou, level)

    def class_intervals(
        self, place: int, classes: Classes, level: float
    ) -> dict[str, Interval | None]:
        """Return the interval of each class's IoU, by name; None where the class is absent."""
        whole, left_out = self.whole[place].iou, self.left_out[place].iou
        named = zip(classes.names, whole, left_out.T, strict=True)
        return {name: _share(float(iou), left, level) for name, iou, left in named}

    def difference(self, place: int, other: int, level: float) -> Interval | None:
        """Return the paired interval of one candidate's score minus another's."""
        value = float(self.mious[place] - self.mious[other])
        left_out = self.left_out[place].miou - self.left_out[other].miou
        return as_interval(student_ends(value, left_out, level=level, is_share=False), level)


def _share(value: float, left_out: LeftOut, level: float) -> Interval | None:
    return as_interval(student_ends(value, left_out, level=level, is_share=True), level)
