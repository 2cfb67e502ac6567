"""Gaps of candidates to the best one: sign-flip tests, Holm's correction, and the Pareto front."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Annotated, Any

import numpy as np
from jaxtyping import Float, Num
from pydantic import Field

from evaluation.intervals import Interval, interval_to_dict
from evaluation.iou import Protocol
from evaluation.scores import CandidateScores, nan_to_none

Flips = Annotated[int, Field(ge=100)]

FLIPS = 10_000
FLIPS_PER_PAIR = 50
"""So that a test's smallest p-value, times the number of pairs, can be a fiftieth."""

BATCH_VALUES = 1 << 22
"""Numbers in memory at a time (32 MB as float64)."""

MAX_EXACT_GROUPS = 32
"""With as many groups there are more exchanges than anybody asks for."""

ROUNDING = 1e-12
"""Gaps closer than this are equal: sums in another order differ in their last bits."""

GroupCounts = Num[np.ndarray, "group target prediction"]
Signs = Float[np.ndarray, "flip group"]
PValues = Float[np.ndarray, " candidate"]


@dataclass(frozen=True)
class GapToBest:
    """A candidate compared with the highest.

    Args:
        value: its score minus the highest: 0 or less.
        interval: paired, of this gap alone; None if there is only one group.
        p_alone: of the sign-flip test, as if there were no other candidates; NaN if nothing was
            scored.
        p: corrected for all pairs of candidates.
        significant: whether p is at most 1 minus the level.
    """

    value: float
    interval: Interval | None
    p_alone: float
    p: float
    significant: bool

    def to_dict(self) -> dict[str, Any]:
        """Return JSON values; None for missing ones."""
        return {
            "value": nan_to_none(self.value),
            "interval": interval_to_dict(self.interval),
            "p_alone": nan_to_none(self.p_alone),
            "p": nan_to_none(self.p),
            "significant": self.significant,
        }


def gaps_to_first(
    scores: CandidateScores, *, rng: np.random.Generator, level: float
) -> list[GapToBest | None]:
    """Compare every candidate with the highest.

    Holm's correction counts all pairs and not only those with the first, since the first was found
    by comparing scores: in a simulation of ten equal candidates, one was significantly lower on 10
    to 15 % of the leaderboards without it (docs/decisions/0005-intervals.md).

    Args:
        scores: of the candidates.
        rng: draws the exchanges of the tests.
        level: of each interval; the tests err at most 1 minus this, all together.

    Returns:
        One per candidate; None for the first, and for all if nothing was scored.
    """
    mious = scores.mious
    if np.isnan(mious).all():
        return [None] * len(mious)
    first = int(np.nanargmax(mious))
    others = [index for index in range(len(mious)) if index != first]
    pairs = num_pairs(len(mious))
    p_values = sign_flip_test(
        scores.sums[first],
        [scores.sums[index] for index in others],
        scores.scorer,
        scores.ignore,
        rng=rng,
        flips=max(FLIPS, FLIPS_PER_PAIR * pairs),
    )
    gaps: list[GapToBest | None] = [None] * len(mious)
    corrected = holm(p_values, tests=pairs)
    for index, alone, p in zip(others, p_values.tolist(), corrected.tolist(), strict=True):
        gap, interval = float(mious[index] - mious[first]), scores.difference(index, first, level)
        gaps[index] = GapToBest(gap, interval, alone, p, significant=p <= 1 - level)
    return gaps


def num_pairs(candidates: int) -> int:
    """Return the number of pairs of candidates."""
    return candidates * (candidates - 1) // 2


def sign_flip_test(
    first: GroupCounts,
    others: Sequence[GroupCounts],
    protocol: Protocol,
    ignore: int | None,
    *,
    rng: np.random.Generator,
    flips: Flips = FLIPS,
) -> PValues:
    """Test each candidate against the first by exchanging the two in random groups.

    If two candidates differ by chance only, either could have got the other's labels in any group;
    the statistic is their difference in mean IoU after such exchanges. If there are fewer possible
    exchanges than `flips`, all of them are evaluated.

    Candidates are given by their additive terms per group, of the same groups; `protocol` scores
    sums of them. The same groups are exchanged for all candidates.

    Returns:
        Two-sided p-values: the share of exchanges that give a gap as large, the observed one
        included; NaN where the gap is.

    References:
        Good, "Permutation, Parametric, and Bootstrap Tests of Hypotheses", 3rd edition, 2005.
    """
    groups, *table = first.shape
    observed = np.array([_gap(first.sum(axis=0), o.sum(axis=0), protocol, ignore) for o in others])
    pairs = [((first - o).reshape(groups, -1) / 2, (first + o).sum(axis=0) / 2) for o in others]
    larger, evaluated = np.zeros(len(others)), 0
    size = max(1, BATCH_VALUES // max(groups, math.prod(table)))
    for signs in _signs(groups, flips, size, rng):
        for index, (half, middle) in enumerate(pairs):
            moved = (signs @ half).reshape(len(signs), *table)
            gaps = _gap(middle + moved, middle - moved, protocol, ignore)
            larger[index] += (np.abs(gaps) >= abs(observed[index]) - ROUNDING).sum()
        evaluated += len(signs)
    sampled = evaluated == flips
    p_values: PValues = (larger + sampled) / (evaluated + sampled)
    return np.where(np.isnan(observed), np.nan, p_values)


def holm(p_values: PValues, *, tests: int) -> PValues:
    """Correct p-values for the number of tests.

    The smallest is multiplied by that number, the next by one less, and none falls below the one
    before.

    Args:
        p_values: NaN stay NaN.
        tests: number of tests, `p_values` and others.

    References:
        Holm, "A Simple Sequentially Rejective Multiple Test Procedure", Scandinavian Journal of
        Statistics 6, 1979.

    Examples:
        >>> holm(np.array([0.01, 0.04, 0.03]), tests=3).round(2)
        array([0.03, 0.06, 0.06])
    """
    order = np.argsort(p_values)  # NaN last
    stepped = np.minimum(1, p_values[order] * (tests - np.arange(len(order))))
    corrected = np.empty(len(order))
    corrected[order] = np.maximum.accumulate(stepped)
    return corrected


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


def _gap(
    a: Num[np.ndarray, "*sets target prediction"],
    b: Num[np.ndarray, "*sets target prediction"],
    protocol: Protocol,
    ignore: int | None,
) -> Float[np.ndarray, "*sets"]:
    return np.asarray(protocol(a, ignore).miou - protocol(b, ignore).miou)


def _signs(groups: int, flips: int, size: int, rng: np.random.Generator) -> Iterator[Signs]:
    """Yield batches of `size` signs: -1 where a group is exchanged.

    Exchanging all groups but one is the same as exchanging that one and turns the difference
    round; so when all exchanges are evaluated, the last group is never exchanged.
    """
    ways = 1 << (groups - 1) if groups < MAX_EXACT_GROUPS else flips
    if ways < flips:
        for start in range(0, ways, size):
            numbers = np.arange(start, min(start + size, ways))[:, np.newaxis]
            yield 1.0 - 2.0 * (numbers >> np.arange(groups) & 1)
        return
    for start in range(0, flips, size):
        yield 1.0 - 2.0 * rng.integers(2, size=(min(size, flips - start), groups))
