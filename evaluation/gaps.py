"""How far each candidate is from the first, and whether that may be chance; who costs too much."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from evaluation.bootstrap import Interval
from evaluation.measured import Measured
from evaluation.permutation import FLIPS, holm, sign_flip_test

FLIPS_A_PAIR = 50
"""So that a test's smallest p-value, times the number of pairs, can be a fiftieth."""


@dataclass(frozen=True)
class Gap:
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


def pairs_of(candidates: int) -> int:
    """Count the pairs: the first is found by looking, so any two might have been compared."""
    return candidates * (candidates - 1) // 2


def gaps_to_first(
    measured: Measured, *, rng: np.random.Generator, level: float
) -> list[Gap | None]:
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
    pairs = pairs_of(len(mious))
    p_values = sign_flip_test(
        measured.sums[first],
        [measured.sums[place] for place in others],
        measured.scorer,
        measured.ignore,
        rng=rng,
        flips=max(FLIPS, FLIPS_A_PAIR * pairs),
    )
    gaps: list[Gap | None] = [None] * len(mious)
    corrected = holm(p_values, tests=pairs)
    for place, alone, p in zip(others, p_values.tolist(), corrected.tolist(), strict=True):
        gap, interval = float(mious[place] - mious[first]), measured.difference(place, first, level)
        gaps[place] = Gap(gap, interval, alone, p, told_apart=p <= 1 - level)
    return gaps


def pareto_front(scores: Sequence[float], costs: Sequence[float]) -> list[bool]:
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
