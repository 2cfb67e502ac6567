"""Intervals by resampling groups of pictures: how far the score would move on other pictures.

Neighbouring pictures resemble each other, so groups (rover positions, patients, flights) are
drawn, not pictures. Intervals are expanded percentile intervals. In a simulation of grouped,
imbalanced counts (400 data sets, 1,000 resamples, nominal 95 %) the paired difference was covered
in 93, 93, 94 and 94 % with 10, 20, 50 and 150 groups; plain percentiles gave 88, 91, 93 and 93 %,
BCa 84, 86, 88 and 89 %. The single score was covered less often by all of them (expanded: 89, 88,
89 and 92 %), because few groups hold the rare class: intervals over few groups are too short.
"""

from dataclasses import dataclass
from typing import Annotated

import numpy as np
from jaxtyping import Float, Int64, Shaped
from pydantic import Field

from evaluation.ground.arrays import Counts, Groups
from evaluation.iou import Protocol

Level = Annotated[float, Field(gt=0, lt=1)]
Resamples = Annotated[int, Field(ge=100)]

LEVEL = 0.95
RESAMPLES = 10_000
BATCH_VALUES = 1 << 22
"""Numbers in memory at a time (32 MB as float64), however many resamples and groups there are."""

GroupSums = Int64[np.ndarray, "candidate group true guess"]
Replicates = Float[np.ndarray, "candidate resample"]


@dataclass(frozen=True)
class Interval:
    """A confidence interval.

    Args:
        low: its lower end.
        high: its upper end.
        level: how often intervals made this way should hold the true value, 0 to 1.
    """

    low: float
    high: float
    level: float


def interval(
    counts: Counts,
    groups: Groups,
    protocol: Protocol,
    ignore: int | None,
    *,
    rng: np.random.Generator,
    level: Level = LEVEL,
    resamples: Resamples = RESAMPLES,
) -> Interval | None:
    """Return an interval for the protocol's mean IoU.

    Args:
        counts: per picture.
        groups: which group each picture belongs to; any values that can be sorted.
        protocol: the definition of the score.
        ignore: the ignored class, or None.
        rng: where the resamples come from; the same state gives the same interval.
        level: of the interval.
        resamples: how many times all groups are drawn anew.

    Returns:
        The interval; None where one group is all there is, or nothing was counted.
    """
    sums = group_sums(counts[np.newaxis], groups)
    scores = replicates(sums, protocol, ignore, rng=rng, resamples=resamples)
    return expanded_percentile(scores[0], groups=sums.shape[1], level=level)


def paired_interval(
    counts_a: Counts,
    counts_b: Counts,
    groups: Groups,
    protocol: Protocol,
    ignore: int | None,
    *,
    rng: np.random.Generator,
    level: Level = LEVEL,
    resamples: Resamples = RESAMPLES,
) -> Interval | None:
    """Return an interval for the difference in mean IoU, a minus b, on the same pictures.

    Both are scored on the same resamples, so what makes pictures hard for both cancels; two
    single intervals may overlap although the difference is certain.

    Args:
        counts_a: per picture.
        counts_b: per picture, of the same pictures in the same order.
        groups: as in `interval`.
        protocol: as in `interval`.
        ignore: as in `interval`.
        rng: as in `interval`.
        level: as in `interval`.
        resamples: as in `interval`.

    Returns:
        The interval; None as in `interval`.
    """
    sums = group_sums(np.stack([counts_a, counts_b]), groups)
    a, b = replicates(sums, protocol, ignore, rng=rng, resamples=resamples)
    return expanded_percentile(a - b, groups=sums.shape[1], level=level)


def group_sums(
    counts: Shaped[np.ndarray, "candidate picture true guess"], groups: Groups
) -> GroupSums:
    """Sum the counts of the pictures of each group; groups come in sorted order."""
    _, place = np.unique(groups, return_inverse=True)
    order = np.argsort(place, kind="stable")
    starts = np.flatnonzero(np.diff(place[order], prepend=-1))
    return np.add.reduceat(counts[:, order], starts, axis=1, dtype=np.int64)


def replicates(
    sums: GroupSums,
    protocol: Protocol,
    ignore: int | None,
    *,
    rng: np.random.Generator,
    resamples: Resamples = RESAMPLES,
) -> Replicates:
    """Score every candidate on the same resamples of the groups.

    Args:
        sums: counts per group.
        protocol: the definition of the score.
        ignore: the ignored class, or None.
        rng: where the resamples come from.
        resamples: how many.

    Returns:
        Mean IoU; NaN where a resample held nothing to count.
    """
    candidates, groups, *table = sums.shape
    # A resample's counts are the groups' counts times how often each was drawn: one product.
    flat = sums.transpose(1, 0, 2, 3).reshape(groups, -1).astype(np.float64)
    batch = max(1, BATCH_VALUES // max(groups, flat.shape[1]))
    scores = np.empty((candidates, resamples))
    for start in range(0, resamples, batch):
        size = min(batch, resamples - start)
        drawn = _times_drawn(size, groups, rng) @ flat
        scored = protocol(drawn.reshape(size, candidates, *table), ignore)
        scores[:, start : start + size] = scored.miou.T
    return scores


def expanded_percentile(
    scores: Float[np.ndarray, " resample"], *, groups: int, level: Level = LEVEL
) -> Interval | None:
    """Cut the tails off a bootstrap distribution, a little less than their nominal share.

    Plain percentiles are too narrow by sqrt((n - 1) / n) and by taking the normal distribution
    for Student's; so the quantile q(p) is taken at p with z(p) = t(p, n - 1) sqrt(n / (n - 1)).

    Args:
        scores: one number a resample; those that are NaN are left out.
        groups: how many groups were drawn from.
        level: of the interval.

    Returns:
        The interval; None where there is one group only, or nothing but NaN.

    Source: Hesterberg, "What Teachers Should Know about the Bootstrap", arXiv 1411.5279, and
    `ExpandProbs` in his R package `resample`.
    """
    from scipy.special import ndtr, stdtrit  # slow to import, and every verb imports this file

    scores = scores[~np.isnan(scores)]
    if groups < 2 or not len(scores):
        return None
    tail = float(ndtr(stdtrit(groups - 1, (1 - level) / 2) * np.sqrt(groups / (groups - 1))))
    low, high = np.quantile(scores, [tail, 1 - tail])
    return Interval(float(low), float(high), level)


def _times_drawn(
    size: int, groups: int, rng: np.random.Generator
) -> Float[np.ndarray, "resample group"]:
    """Draw `groups` out of `groups` with replacement, `size` times."""
    drawn = rng.integers(groups, size=(size, groups))
    drawn += np.arange(size)[:, np.newaxis] * groups
    times = np.bincount(drawn.ravel(), minlength=size * groups)
    return times.reshape(size, groups).astype(np.float64)
