"""Which candidate is chosen, which is the reference, and differences to both."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from evaluation.core.run_folder import OOF
from evaluation.intervals import Interval
from evaluation.joint_tests import AgainstOne, JointTests


@dataclass(frozen=True)
class Selection:
    """Indices of the chosen candidate and of the reference.

    Args:
        candidates: number of candidates.
        chosen: the highest on oof; None if no candidate has oof scores.
        reference: the highest single member on oof, or on the examined split if no member has oof
            scores; None without members.
        reference_on: `oof` or the examined split: where the reference is the highest.
        split: the examined split.
    """

    candidates: int
    chosen: int | None
    reference: int | None
    reference_on: str
    split: str

    @property
    def preregistered(self) -> int | None:
        """The candidate whose comparison was fixed before the examined split was seen."""
        return self.chosen if self.reference_on == OOF != self.split else None

    @property
    def predeclared(self) -> list[int]:
        """The chosen candidate and the reference, where they were fixed before."""
        if self.split == OOF:
            return []
        known = [self.chosen, self.reference if self.reference_on == OOF else None]
        return [index for index in known if index is not None]

    @property
    def others(self) -> list[int]:
        """The candidates with other comparisons with the reference."""
        return sorted(set(range(self.candidates)) - {self.preregistered, self.reference})

    def gain(self, mious: Sequence[float], index: int) -> float:
        """Return a candidate's gain over the reference; NaN if there is none."""
        if self.reference is None or index == self.reference:
            return math.nan
        return mious[index] - mious[self.reference]


@dataclass(frozen=True)
class Gains:
    """Intervals and tests of the gains over the reference.

    Args:
        selection: the chosen candidate and the reference.
        tests: of all candidates.
        level: of the preregistered gain, and of all others together.
        corrected: of the other gains, if the reference was fixed before.
    """

    selection: Selection
    tests: JointTests
    level: float
    corrected: AgainstOne | None

    @classmethod
    def of(cls, selection: Selection, tests: JointTests, level: float) -> "Gains":
        """Compare candidates with the reference."""
        corrected = None
        if selection.reference is not None and selection.reference_on == OOF != selection.split:
            corrected = tests.against(selection.reference, selection.others, level=level)
        return cls(selection, tests, level, corrected)

    @property
    def each_level(self) -> float:
        """The level of the gains that were not preregistered."""
        return self.corrected.each_level if self.corrected else self.tests.pairs_level(self.level)

    def interval(self, index: int) -> Interval | None:
        """Return the paired interval of a candidate's gain over the reference."""
        reference = self.selection.reference
        if reference is None or index == reference:
            return None
        if index == self.selection.preregistered:
            return self.tests.interval(index, reference, self.level, most_freedom=math.inf)
        most = self.corrected.most_freedom if self.corrected else self.tests.most_freedom
        return self.tests.interval(index, reference, self.each_level, most_freedom=most)

    def is_better(self, index: int) -> bool:
        """Tell whether a gain is shown to be above 0: by its interval, or by the step-down test."""
        interval, reference = self.interval(index), self.selection.reference
        if interval is None or reference is None:
            return False
        if interval.low > 0 or self.corrected is None:
            return interval.low > 0
        stepped = bool(self.corrected.p[index] <= 1 - self.level)
        return stepped and bool(self.tests.scores[index] > self.tests.scores[reference])


@dataclass(frozen=True)
class DifferencesToChosen:
    """Differences of the candidates' scores to the chosen one's, with their intervals.

    Args:
        selection: the chosen candidate.
        tests: of all candidates.
        each_level: of each interval, so that all together hold at the level that was asked for.
        most_freedom: limit of the degrees of freedom.
    """

    selection: Selection
    tests: JointTests
    each_level: float
    most_freedom: float

    @classmethod
    def of(cls, selection: Selection, tests: JointTests, level: float) -> "DifferencesToChosen":
        """Compare candidates with the chosen one.

        If it was fixed before the images were examined, only these comparisons are corrected for,
        else those of all pairs.
        """
        chosen = selection.chosen
        if chosen is None or chosen not in selection.predeclared:
            return cls(selection, tests, tests.pairs_level(level), tests.most_freedom)
        others = [index for index in range(selection.candidates) if index != chosen]
        against = tests.against(chosen, others, level=level)
        return cls(selection, tests, against.each_level, against.most_freedom)

    def value(self, mious: Sequence[float], index: int) -> float:
        """Return a candidate's score minus the chosen one's; NaN for itself, or if none is."""
        chosen = self.selection.chosen
        return math.nan if chosen in (None, index) else mious[index] - mious[chosen]

    def interval(self, index: int) -> Interval | None:
        """Return the paired interval of this difference; None for the chosen candidate."""
        chosen = self.selection.chosen
        if chosen is None or index == chosen:
            return None
        return self.tests.interval(index, chosen, self.each_level, most_freedom=self.most_freedom)


def select(
    oof: Sequence[float], examined: Sequence[float], members: Sequence[int], split: str
) -> Selection:
    """Choose a candidate and a reference by their scores on oof."""
    reference, reference_on = argmax(oof, members), OOF
    if reference is None:
        reference, reference_on = argmax(examined, members), split
    chosen = argmax(oof, range(len(oof)))
    return Selection(len(oof), chosen, reference, reference_on, split)


def argmax(scores: Sequence[float], indices: Iterable[int]) -> int | None:
    """Return the index of the highest score, of those that are known; None if there is none."""
    known = [index for index in indices if not math.isnan(scores[index])]
    return max(known, key=lambda index: scores[index], default=None)
