"""Which candidates may be the best, and which differ: tests of many candidates at once.

All of it follows from the influence of each group of images on each candidate's score, which is how
far the score moves without the group. Differences are divided by their jackknife errors, and made
comparable by the normal deviate of the same p-value under Student's distribution, whose degrees of
freedom are the groups that move the difference (`evaluation.intervals.effective_groups`). The joint
distribution of these deviates, if no candidates differ, is that of normal errors with the
correlations of the influences. So near-duplicates of a candidate cost no power where all are
compared with one fixed candidate.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from jaxtyping import Bool, Float

from evaluation.core.types import Array
from evaluation.intervals import (
    RESAMPLES,
    Interval,
    as_interval,
    effective_freedom,
    student_quantile,
)
from evaluation.scores import CandidateScores

ROUNDING = 1e-12
"""Differences closer to 0 than this are 0: sums in another order differ in their last bits."""

BATCH_VALUES = 1 << 22
"""Numbers in memory at a time (32 MB as float64)."""

SMALLEST_P = 1e-300

Influences = Float[np.ndarray, "candidate group"]
Errors = Float[np.ndarray, "resample candidate"]
PerCandidate = Float[np.ndarray, " candidate"]
Pairs = Float[np.ndarray, "candidate candidate"]
Maxima = Float[np.ndarray, " resample"]


@dataclass(frozen=True)
class AgainstOne:
    """Candidates compared with one that was fixed before the images were examined.

    Args:
        p: of each compared candidate, two-sided, corrected by step-down max-T; NaN where it was
            not compared.
        each_level: of the intervals, so that all together hold at the level that was asked for.
        bound_level: of one-sided bounds, so that all lower ones together hold at that level, and so
            do all upper ones.
        most_freedom: limit of the degrees of freedom.
    """

    p: PerCandidate
    each_level: float
    bound_level: float
    most_freedom: float


@dataclass(frozen=True, eq=False)
class JointTests:
    """Differences of all pairs of candidates, with their joint errors.

    Args:
        scores: of each candidate; NaN if it cannot be compared.
        influences: scores without each group, less their mean; NaN as above.
        errors: normal resamples of the errors of the scores, in units of scores.
    """

    scores: PerCandidate
    influences: Influences
    errors: Errors

    @classmethod
    def of(
        cls, scores: CandidateScores, *, rng: np.random.Generator, resamples: int = RESAMPLES
    ) -> "JointTests":
        """Resample the errors of candidates that were scored on the same images.

        A candidate without a score, or that has none without some group, is not compared, nor is
        any candidate if there is only one group.
        """
        left_out = np.stack([result.miou for result in scores.left_out])
        return cls.from_influences(scores.mious, left_out, rng=rng, resamples=resamples)

    @classmethod
    def from_influences(
        cls,
        scores: PerCandidate,
        left_out: Influences,
        *,
        rng: np.random.Generator,
        resamples: int = RESAMPLES,
    ) -> "JointTests":
        """Resample the errors of scores, given the scores without each group."""
        groups = left_out.shape[1]
        influences = left_out - left_out.mean(axis=1, keepdims=True)
        unknown = np.isnan(scores) | np.isnan(influences).any(axis=1) | (groups < 2)
        influences[unknown] = np.nan
        whitened = np.where(unknown[:, np.newaxis], 0, influences).T * np.sqrt(
            (groups - 1) / groups
        )
        errors = np.empty((resamples, len(scores)))
        batch = max(1, BATCH_VALUES // groups)
        for start in range(0, resamples, batch):
            size = min(batch, resamples - start)
            errors[start : start + size] = rng.standard_normal((size, groups)) @ whitened
        return cls(np.where(unknown, np.nan, scores), influences, errors)

    @property
    def compared(self) -> Bool[np.ndarray, " candidate"]:
        """Which candidates have a score and a standard error."""
        return np.asarray(~np.isnan(self.scores))

    @cached_property
    def standard_errors(self) -> Pairs:
        """Jackknife errors of the differences; NaN where a candidate is not compared."""
        return self._of_pairs[0]

    @cached_property
    def most_freedom(self) -> float:
        """The median of the pairs' degrees of freedom, which none may exceed.

        Degrees of freedom are estimates. Of thousands of pairs some are too high by chance, and
        these would decide the largest deviate.
        """
        pairs = np.triu_indices(len(self.scores), k=1)
        return self._median_freedom(*pairs)

    @cached_property
    def _of_pairs(self) -> tuple[Pairs, Pairs]:
        candidates, groups = self.influences.shape
        errors = np.full((candidates, candidates), np.nan)
        freedom = np.full((candidates, candidates), np.nan)
        for index in range(candidates):
            squares = (self.influences[: index + 1] - self.influences[index]) ** 2
            error = np.sqrt((groups - 1) / groups * squares.sum(axis=1))
            errors[index, : index + 1] = errors[: index + 1, index] = error
            free = effective_freedom(squares)
            freedom[index, : index + 1] = freedom[: index + 1, index] = free
        return errors, freedom

    @property
    def _freedom(self) -> Pairs:
        return self._of_pairs[1]

    def deviates(self, index: int, most_freedom: float) -> PerCandidate:
        """Return the normal deviate of each candidate's score minus one's; 0 if they are equal.

        Args:
            index: of the one.
            most_freedom: limit of the degrees of freedom.
        """
        from scipy.special import ndtri, stdtr  # slow to import

        gaps = self.scores - self.scores[index]
        with np.errstate(divide="ignore", invalid="ignore"):
            t = np.abs(gaps) / self.standard_errors[index]
        t[np.abs(gaps) <= ROUNDING] = 0
        tail = stdtr(np.minimum(self._freedom[index], most_freedom), -t)
        deviates: PerCandidate = -np.sign(gaps) * ndtri(np.clip(tail, SMALLEST_P, 0.5))
        return deviates

    def against(self, index: int, others: Sequence[int], *, level: float) -> AgainstOne:
        """Compare candidates with one that was fixed before the images were examined.

        Args:
            index: of the fixed candidate.
            others: indices of those that are compared with it.
            level: at which all intervals together hold; the tests err at most 1 minus this.

        References:
            Westfall and Young, "Resampling-Based Multiple Testing", 1993: step-down max-T.
        """
        p = np.full(len(self.scores), np.nan)
        compared = [other for other in others if self.compared[[index, other]].all()]
        if not compared:
            return AgainstOne(p, level, level, np.inf)
        most_freedom = self._median_freedom(index, compared)
        deviates = np.abs(self.deviates(index, most_freedom))
        ascending = sorted(compared, key=lambda other: deviates[other])
        maxima, raw = np.zeros(len(self.errors)), []
        for other in ascending:
            maxima = np.maximum(maxima, self._largest_deviates(index, [other]))
            raw.append(_exceeded(maxima, deviates[other]))
        p[ascending[::-1]] = np.maximum.accumulate(raw[::-1])
        one_sided = self._largest_deviates(index, compared, signed=True)
        return AgainstOne(
            p, _each_level(maxima, level), _bound_level(one_sided, level), most_freedom
        )

    def _median_freedom(self, rows: int | Array, others: Sequence[int] | Array) -> float:
        """Return the median over those pairs that differ."""
        differ = self.standard_errors[rows, others] > ROUNDING
        return float(np.median(self._freedom[rows, others][differ])) if differ.any() else np.inf

    def _largest_deviates(
        self, index: int, others: Sequence[int], *, signed: bool = False
    ) -> Maxima:
        """Return, per resample, the largest deviate of others minus one; 0 for equal candidates.

        Args:
            index: of the one.
            others: indices of the others.
            signed: whether only a higher score of another counts.
        """
        unequal = np.asarray(others)[self.standard_errors[index, others] > ROUNDING]
        maxima = np.zeros(len(self.errors))
        if not len(unequal):
            return maxima
        scale = 1 / self.standard_errors[index, unequal]
        batch = max(1, BATCH_VALUES // len(unequal))
        for start in range(0, len(maxima), batch):
            part = self.errors[start : start + batch]
            gaps = (part[:, unequal] - part[:, [index]]) * scale
            maxima[start : start + batch] = (gaps if signed else np.abs(gaps, out=gaps)).max(axis=1)
        return maxima

    @cached_property
    def _elimination(self) -> tuple[list[int], list[float], Maxima]:
        """Return candidates, the last to be eliminated first; p of each set; all pairs' maxima."""
        every = range(len(self.scores))
        deviates = np.stack([self.deviates(index, self.most_freedom) for index in every])
        left, eliminated, statistics = list(np.flatnonzero(self.compared)), [], []
        while left:
            lower_by = deviates[np.ix_(left, left)].max(axis=1)
            # Of candidates lower by the same, as equal copies, the one of the lower score goes.
            worst = max(range(len(left)), key=lambda k: (lower_by[k], -self.scores[left[k]]))
            statistics.append(lower_by[worst])
            eliminated.append(int(left.pop(worst)))
        order = eliminated[::-1]
        maxima, p = np.zeros(len(self.errors)), []
        for size, statistic in enumerate(reversed(statistics)):
            if size:
                others = order[:size]
                maxima = np.maximum(maxima, self._largest_deviates(order[size], others))
            p.append(_exceeded(maxima, statistic))
        return order, p, maxima

    @cached_property
    def set_p(self) -> PerCandidate:
        """The p-value of each candidate in the model confidence set; NaN if it is not compared.

        The set at a level holds those with p above 1 minus the level, and with that probability all
        candidates that are truly best. It results from tests whether all candidates that are left
        are equal, by the largest deviate of any pair; as long as they are not, the candidate that
        is lower than another by the largest deviate is eliminated.

        References:
            Hansen, Lunde and Nason, "The Model Confidence Set", Econometrica 79, 2011: range
            statistic, and p-values of section 2.
        """
        order, p, _ = self._elimination
        result = np.full(len(self.scores), np.nan)
        result[order] = np.maximum.accumulate(p[::-1])[::-1]
        return result

    def pairs_level(self, level: float) -> float:
        """Return the level of each pair's interval, so that those of all pairs hold at `level`."""
        return _each_level(self._elimination[2], level)

    def error_of(self, index: int, other: int, most_freedom: float) -> tuple[float, float]:
        """Return the standard error of a difference and its degrees of freedom; NaN if unknown."""
        error = float(self.standard_errors[index, other])
        return error, float(np.minimum(self._freedom[index, other], most_freedom))

    def interval(
        self, index: int, other: int, level: float, *, most_freedom: float
    ) -> Interval | None:
        """Return the interval of a difference, index minus other; None if it has none."""
        error, freedom = self.error_of(index, other, most_freedom)
        if np.isnan(error):
            return None
        gap = self.scores[index] - self.scores[other]
        half = error * student_quantile(freedom, level)
        return as_interval((float(gap - half), float(gap + half)), level)


def _exceeded(maxima: Maxima, statistic: float) -> float:
    """Return how often the maximum is as large, the observed one included."""
    return float(((maxima >= statistic - ROUNDING).sum() + 1) / (len(maxima) + 1))


def _each_level(maxima: Maxima, level: float) -> float:
    """Return the level of one interval, given the maxima of the deviates of all."""
    from scipy.special import ndtr

    return float(max(level, 1 - 2 * ndtr(-np.quantile(maxima, level))))


def _bound_level(maxima: Maxima, level: float) -> float:
    """Return the level of one bound, given the maxima of the signed deviates of all."""
    from scipy.special import ndtr

    return float(max(level, ndtr(np.quantile(maxima, level))))
