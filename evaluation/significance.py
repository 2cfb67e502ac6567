"""How far each candidate is from the first, and whether that may be chance; who costs too much.

Tests of candidates on the same images: would exchanging their labels give gaps as large?
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Annotated

import numpy as np
from jaxtyping import Float, Num
from pydantic import Field

from evaluation.intervals import Interval
from evaluation.iou import Protocol
from evaluation.scores import CandidateScores

Flips = Annotated[int, Field(ge=100)]

FLIPS = 10_000
BATCH_VALUES = 1 << 22
"""Numbers in memory at a time (32 MB as float64), however many classes and groups there are."""
MANY_GROUPS = 32
"""With as many, there are more ways to exchange than anybody asks for."""
ROUNDING = 1e-12
"""Gaps closer than this are equal: sums in another order differ in their last bits."""

GroupCounts = Num[np.ndarray, "group true prediction"]
Signs = Float[np.ndarray, "flip group"]
PValues = Float[np.ndarray, " candidate"]


def sign_flip_test(
    first: GroupCounts,
    others: Sequence[GroupCounts],
    protocol: Protocol,
    ignore: int | None,
    *,
    rng: np.random.Generator,
    flips: Flips = FLIPS,
) -> PValues:
    """Test each candidate against the first by exchanging the two in groups drawn by lot.

    If nothing but chance told two candidates apart, either could have got the other's labels in any
    group; the statistic is their difference in mean IoU after such exchanges. Where there are fewer
    ways to exchange than flips asked for, all of them are gone through.

    Args:
        first: what each group adds to its score.
        others: each candidate's, of the same groups.
        protocol: what scores sums of it.
        ignore: the ignored class, or None.
        rng: which groups are exchanged; the same ones for all candidates.
        flips: how often.

    Returns:
        A p-value each, two-sided: the share of exchanges that give a gap as large, what was seen
        being one of them; NaN where the gap is.

    Source: Good, "Permutation, Parametric, and Bootstrap Tests of Hypotheses", 3rd edition, 2005.
    """
    groups, *table = first.shape
    seen = np.array([_gap(first.sum(axis=0), o.sum(axis=0), protocol, ignore) for o in others])
    pairs = [((first - o).reshape(groups, -1) / 2, (first + o).sum(axis=0) / 2) for o in others]
    larger, tried = np.zeros(len(others)), 0
    size = max(1, BATCH_VALUES // max(groups, math.prod(table)))
    for signs in _signs(groups, flips, size, rng):
        for place, (half, middle) in enumerate(pairs):
            moved = (signs @ half).reshape(len(signs), *table)
            gaps = _gap(middle + moved, middle - moved, protocol, ignore)
            larger[place] += (np.abs(gaps) >= abs(seen[place]) - ROUNDING).sum()
        tried += len(signs)
    sampled = tried == flips
    p_values: PValues = (larger + sampled) / (tried + sampled)
    return np.where(np.isnan(seen), np.nan, p_values)


def holm(p_values: PValues, *, tests: int) -> PValues:
    """Correct p-values for the number of tests, so that all are right together.

    The smallest is multiplied by that number, the next by one less, and none falls below the one
    before.

    Args:
        p_values: of the tests that are looked at; NaN stay NaN.
        tests: how many there were to choose from, those included.

    Source: Holm, "A Simple Sequentially Rejective Multiple Test Procedure", Scandinavian Journal of
    Statistics 6, 1979.
    """
    order = np.argsort(p_values)  # NaN last
    stepped = np.minimum(1, p_values[order] * (tests - np.arange(len(order))))
    corrected = np.empty(len(order))
    corrected[order] = np.maximum.accumulate(stepped)
    return corrected


def _gap(
    a: Num[np.ndarray, "*sets true prediction"],
    b: Num[np.ndarray, "*sets true prediction"],
    protocol: Protocol,
    ignore: int | None,
) -> Float[np.ndarray, "*sets"]:
    return np.asarray(protocol(a, ignore).miou - protocol(b, ignore).miou)


def _signs(groups: int, flips: int, size: int, rng: np.random.Generator) -> Iterator[Signs]:
    """Yield batches of `size` signs: -1 where a group is exchanged.

    Exchanging all groups but one is exchanging that one, and turns the difference round; so when
    all ways are gone through, the last group stays.
    """
    ways = 1 << (groups - 1) if groups < MANY_GROUPS else flips
    if ways < flips:
        for start in range(0, ways, size):
            numbers = np.arange(start, min(start + size, ways))[:, np.newaxis]
            yield 1.0 - 2.0 * (numbers >> np.arange(groups) & 1)
        return
    for start in range(0, flips, size):
        yield 1.0 - 2.0 * rng.integers(2, size=(min(size, flips - start), groups))


FLIPS_A_PAIR = 50
"""So that a test's smallest p-value, times the number of pairs, can be a fiftieth."""


@dataclass(frozen=True)
class GapToBest:
    """A candidate against the first.

    Args:
        value: its score minus the first's: 0 or less.
        interval: paired, of this gap alone; None where one group is all there is.
        p_alone: of the sign-flip test, as if there were no other candidates; NaN where nothing
            was scored.
        p: corrected for all pairs of candidates.
        told_apart: whether the first is higher by more than chance.
    """

    value: float
    interval: Interval | None
    p_alone: float
    p: float
    told_apart: bool


def num_pairs(candidates: int) -> int:
    """Count the pairs: the first is found by looking, so any two might have been compared."""
    return candidates * (candidates - 1) // 2


def gaps_to_first(
    measured: CandidateScores, *, rng: np.random.Generator, level: float
) -> list[GapToBest | None]:
    """Compare every candidate with the highest.

    Holm's correction counts all pairs and not only those with the first: in a simulation of ten
    candidates that were alike, one was told from the first on 10 to 15 % of the boards
    without it (docs/decisions/0005-intervals.md).

    Args:
        measured: the candidates.
        rng: what the tests draw from.
        level: of the intervals, one by one; and 1 minus what the tests may err, all together.

    Returns:
        One a candidate; None for the first, and for all where nothing was scored.
    """
    mious = measured.mious
    if np.isnan(mious).all():
        return [None] * len(mious)
    first = int(np.nanargmax(mious))
    others = [place for place in range(len(mious)) if place != first]
    pairs = num_pairs(len(mious))
    p_values = sign_flip_test(
        measured.sums[first],
        [measured.sums[place] for place in others],
        measured.scorer,
        measured.ignore,
        rng=rng,
        flips=max(FLIPS, FLIPS_A_PAIR * pairs),
    )
    gaps: list[GapToBest | None] = [None] * len(mious)
    corrected = holm(p_values, tests=pairs)
    for place, alone, p in zip(others, p_values.tolist(), corrected.tolist(), strict=True):
        gap, interval = float(mious[place] - mious[first]), measured.difference(place, first, level)
        gaps[place] = GapToBest(gap, interval, alone, p, told_apart=p <= 1 - level)
    return gaps


def on_pareto_front(scores: Sequence[float], costs: Sequence[float]) -> list[bool]:
    """Tell for whom nobody scores as high at less cost, nor higher at the same.

    Args:
        scores: one each; NaN where unknown.
        costs: one each; NaN where unknown. Who lacks either is not on the front, and beats nobody.
    """
    known = [
        (score, cost) if not (math.isnan(score) or math.isnan(cost)) else None
        for score, cost in zip(scores, costs, strict=True)
    ]
    return [mine is not None and not any(_beats(other, mine) for other in known) for mine in known]


def _beats(other: tuple[float, float] | None, mine: tuple[float, float]) -> bool:
    return other is not None and other != mine and other[0] >= mine[0] and other[1] <= mine[1]
