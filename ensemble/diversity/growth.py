"""How the score of the mean grows with the number of members."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ensemble.diversity.judge import Change, Judge
from ensemble.diversity.subsets import Subset


@dataclass(frozen=True)
class Size:
    """What so many members score.

    Args:
        members: how many.
        miou: of their mean, averaged over the subsets of this size.
        gain: over one member fewer; None for one member, and where no smaller size was counted.
    """

    members: int
    miou: float
    gain: Change | None


def growth(judge: Judge, subsets: Sequence[Subset]) -> list[Size]:
    """Average the scores of subsets by their size; intervals resample the groups of pictures.

    Args:
        judge: of subsets.
        subsets: distinct; of one size each member should be in as many, lest the sizes differ by
            who is in them. All subsets are so, and so are those of a sampled Shapley formula.

    Returns:
        The sizes that there are, ascending.
    """
    sizes = np.array([len(subset) for subset in subsets])
    scores, drawn = judge.score(subsets).miou, judge.replicates(subsets)
    found: list[Size] = []
    for size in np.unique(sizes).tolist():
        own, fewer = sizes == size, sizes == size - 1
        gain = None
        if fewer.any():
            value = scores[own].mean() - scores[fewer].mean()
            ends = judge.interval(drawn[own].mean(axis=0) - drawn[fewer].mean(axis=0))
            gain = Change(float(value), ends)
        found.append(Size(size, float(scores[own].mean()), gain))
    return found
