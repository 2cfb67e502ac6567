"""Gaps of candidates to the first, the smallest detectable gap, and the Pareto front."""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from evaluation.intervals import Interval, interval_to_dict, student_quantile
from evaluation.joint_tests import JointTests
from evaluation.scores import nan_to_none

POWER = 0.8
"""Chance to detect a true gap of the size that is called detectable."""


@dataclass(frozen=True)
class GapToFirst:
    """A candidate compared with the highest.

    Args:
        value: its score minus the highest: 0 or less.
        interval: paired, at a level at which the intervals of all pairs of candidates hold
            together, since the first was found by comparing scores; None if there is only one
            group.
        p: of the model confidence set; NaN if the candidate is not compared.
        may_be_best: whether the candidate is in the set, that is, p is above 1 minus the level.
    """

    value: float
    interval: Interval | None
    p: float
    may_be_best: bool

    def to_dict(self) -> dict[str, Any]:
        """Return JSON values; None for missing ones."""
        return {
            "value": nan_to_none(self.value),
            "interval": interval_to_dict(self.interval),
            "p": nan_to_none(self.p),
            "may_be_best": self.may_be_best,
        }


def gaps_to_first(
    tests: JointTests, mious: Sequence[float], level: float
) -> list[GapToFirst | None]:
    """Compare every candidate with the highest.

    Args:
        tests: of the candidates.
        mious: their scores.
        level: at which the model confidence set holds all best candidates, and all intervals hold.

    Returns:
        One per candidate; None for the first, and for all if nothing was scored.
    """
    if np.isnan(mious).all():
        return [None] * len(mious)
    first, pairs_level = int(np.nanargmax(mious)), tests.pairs_level(level)
    return [
        None
        if index == first
        else GapToFirst(
            float(mious[index] - mious[first]),
            tests.interval(index, first, pairs_level, most_freedom=tests.most_freedom),
            p,
            may_be_best=not p <= 1 - level and not math.isnan(mious[index]),
        )
        for index, p in enumerate(tests.set_p.tolist())
    ]


@dataclass(frozen=True)
class DetectableGap:
    """The smallest true gaps that an evaluation detects with the power `POWER`.

    They follow from the errors of the differences, not from the gaps that were observed.

    Args:
        median: over the candidates' differences to one of them.
        low: the smallest of them.
        high: the largest of them.
        level: of the interval that has to exclude 0.
        candidates: whose labels differ from that one's.
    """

    median: float
    low: float
    high: float
    level: float
    candidates: int

    def to_dict(self) -> dict[str, float]:
        """Return JSON values."""
        return asdict(self) | {"power": POWER}


def detectable_gap(
    tests: JointTests, index: int, others: Sequence[int], level: float, *, most_freedom: float
) -> DetectableGap | None:
    """Return the smallest gaps between one candidate and others that would be detected.

    A gap is detected if its interval at `level` excludes 0. The smallest one is a multiple of the
    standard error: the sum of the quantiles of the interval and of `POWER`.

    Returns:
        None if no other candidate is compared, or none differs.

    References:
        Bloom, "Minimum Detectable Effects", Evaluation Review 19, 1995.
    """
    gaps = []
    for other in others:
        error, freedom = tests.error_of(index, other, most_freedom)
        if error > 0:
            gaps.append(error * _detected_errors(freedom, level))
    if not gaps:
        return None
    return DetectableGap(float(np.median(gaps)), min(gaps), max(gaps), level, len(gaps))


@dataclass(frozen=True)
class GroupsNeeded:
    """How many groups of images would show a given gap.

    Args:
        gap: the true difference in score.
        groups: so many detect it with the power `POWER`.
        low: if the variance is at the lower end of its interval at 95 %.
        high: if it is at the upper end.
        level: of the interval that has to exclude 0.
    """

    gap: float
    groups: int
    low: int
    high: int
    level: float

    def to_dict(self) -> dict[str, float]:
        """Return JSON values."""
        return asdict(self) | {"power": POWER}


def groups_needed(
    gap: float, *, error: float, freedom: float, groups: int, level: float
) -> GroupsNeeded:
    """Return how many groups would show a gap, given the paired error on some others.

    The error falls with the square root of the number of groups, and the degrees of freedom grow
    with it. The variance itself is known as well as its degrees of freedom allow, by the chi-square
    distribution.

    Args:
        gap: the true difference in score, above 0.
        error: standard error of the difference on the known groups.
        freedom: degrees of freedom of the error.
        groups: number of known groups.
        level: of the interval that has to exclude 0.

    Examples:
        >>> needed = groups_needed(0.01, error=0.01, freedom=49.0, groups=50, level=0.95)
        >>> needed.low, needed.groups, needed.high
        (276, 395, 612)
    """
    from scipy.special import chdtri  # slow to import

    def number(variance: float) -> int:
        low, high = 2, 2
        while not _is_enough(high, gap, variance, freedom / groups, level):
            low, high = high, 2 * high
        while high - low > 1:
            middle = (low + high) // 2
            enough = _is_enough(middle, gap, variance, freedom / groups, level)
            low, high = (low, middle) if enough else (middle, high)
        return high

    variance = groups * error**2
    low, high = (variance * freedom / float(chdtri(freedom, tail)) for tail in (0.025, 0.975))
    return GroupsNeeded(gap, number(variance), number(low), number(high), level)


def _is_enough(
    groups: int, gap: float, variance: float, freedom_per_group: float, level: float
) -> bool:
    freedom = max(1.0, groups * freedom_per_group)
    return _detected_errors(freedom, level) ** 2 * variance <= groups * gap**2


def _detected_errors(freedom: float, level: float) -> float:
    """Return how many standard errors a gap has that is detected with the power `POWER`."""
    return student_quantile(freedom, level) + student_quantile(freedom, 2 * POWER - 1)


def on_pareto_front(scores: Sequence[float], costs: Sequence[float]) -> list[bool]:
    """Return for which candidates no other scores as high at less cost, nor higher at the same.

    Args:
        scores: NaN if unknown.
        costs: NaN if unknown. A candidate that lacks either is not on the front.

    Examples:
        >>> on_pareto_front([0.9, 0.8, 0.7], [9.0, 4.0, 5.0])
        [True, True, False]
    """
    known = [
        (score, cost) if not (math.isnan(score) or math.isnan(cost)) else None
        for score, cost in zip(scores, costs, strict=True)
    ]
    return [
        point is not None and not any(_dominates(other, point) for other in known)
        for point in known
    ]


def _dominates(other: tuple[float, float] | None, point: tuple[float, float]) -> bool:
    return other is not None and other != point and other[0] >= point[0] and other[1] <= point[1]
