"""Which members can go: backward elimination while the loss stays within noise."""

from dataclasses import dataclass

import numpy as np

from ensemble.diversity.judge import Change, Judge
from ensemble.diversity.subsets import Subset

TOLERANCE = 0.002
"""Largest loss of mean IoU that counts as none."""


@dataclass(frozen=True)
class Step:
    """A member fewer.

    Args:
        dropped: which one.
        kept: who is left.
        change: of the score against that of all members.
    """

    dropped: int
    kept: Subset
    change: Change


@dataclass(frozen=True)
class Elimination:
    """What can be dropped.

    Args:
        steps: one after the other; none where nobody can go.
        refused: the step that came next and lost too much; None where one member is left.
    """

    steps: tuple[Step, ...]
    refused: Step | None


def eliminate(judge: Judge, members: int, *, tolerance: float = TOLERANCE) -> Elimination:
    """Drop the member that is missed least, again and again, while the loss stays within noise.

    The best of several is chosen by the score it is told with, so the loss is a little larger on
    other pictures. A step asks for the subsets that are one smaller, in one pass over the maps.

    Args:
        judge: of subsets.
        members: how many there are.
        tolerance: largest loss against all members.
    """
    kept = everyone = tuple(range(members))
    steps: list[Step] = []
    while len(kept) > 1:
        smaller = without_one(kept)
        best = int(np.argmax(judge.score(smaller).miou))
        step = Step(kept[best], smaller[best], judge.change(smaller[best], everyone))
        if not step.change.within_noise(tolerance):
            return Elimination(tuple(steps), step)
        steps.append(step)
        kept = step.kept
    return Elimination(tuple(steps), None)


def without_one(members: Subset) -> list[Subset]:
    """List the subsets that lack one member, in the order of who is lacking."""
    return [tuple(m for m in members if m != dropped) for dropped in members]
