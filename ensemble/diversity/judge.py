"""Score subsets of members, and compare them with intervals."""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from ensemble.diversity.subsets import Subset, SubsetCounts
from evaluation.bootstrap import Interval, expanded_percentile, paired_interval, replicates
from evaluation.iou import Protocol, Score

REPLICATES = 2_000
"""Resamples where all subsets are scored on each: what many of them would cost, few would save."""


@dataclass(frozen=True)
class Change:
    """A difference of mean IoU on the same pictures.

    Args:
        value: the difference.
        interval: paired, over groups of pictures; None where one group is all there is.
    """

    value: float
    interval: Interval | None

    @property
    def half_width(self) -> float | None:
        """Half the length of the interval."""
        return None if self.interval is None else (self.interval.high - self.interval.low) / 2

    def within_noise(self, tolerance: float) -> bool:
        """Tell whether a loss is below the tolerance, and may be none by the interval."""
        return self.value > -tolerance and (self.interval is None or self.interval.high >= 0)


@dataclass(frozen=True)
class Judge:
    """Says what the mean of a subset of members scores.

    Args:
        counts: of subsets, by group of pictures.
        protocol: the definition of the score.
        ignore: the ignored class, or None.
        seed: of the resamples: all of them are the same.
    """

    counts: SubsetCounts
    protocol: Protocol
    ignore: int | None
    seed: int

    def score(self, subsets: Iterable[Subset]) -> Score:
        """Score each subset."""
        return self.protocol(self.counts.of(subsets).sum(axis=1), self.ignore)

    def change(self, new: Subset, old: Subset) -> Change:
        """Return what changes from an old subset to a new one, with a paired interval."""
        a, b = self.counts.of([new, old])
        scores = self.score([new, old]).miou
        interval = paired_interval(a, b, np.arange(len(a)), self.protocol, self.ignore)
        return Change(float(scores[0] - scores[1]), interval)

    def replicates(self, subsets: Iterable[Subset]) -> Float[np.ndarray, "subset resample"]:
        """Score each subset on the same resamples of the groups."""
        sums, rng = self.counts.of(subsets), np.random.default_rng(self.seed)
        return replicates(sums, self.protocol, self.ignore, rng=rng, resamples=REPLICATES)

    def interval(self, scores: Float[np.ndarray, " resample"]) -> Interval | None:
        """Return the interval of a number that was computed on each resample."""
        return expanded_percentile(scores, groups=self.counts.groups)
