"""Intervals over groups of images: how far the score would move on other images.

Neighbouring images resemble each other, so groups (rover positions, patients, flights) are drawn,
not images. Four methods: the jackknife's, which holds the target most often (docs/decisions,
0005) and is the default, and three ways to read a bootstrap distribution.

Intervals by leaving out one group of images at a time: what each group moves by itself.

An interval made of a standard error is as good as the distribution it takes for the score. Two
things make it wrong with few groups, and both are mended here. Where a rare class lies in a few of
the groups, these move the score and the rest hardly does: the standard error is as uncertain as if
there were only few groups, which is what `effective_groups` counts. And a score lies between 0 and
1, so it is taken on the scale of log-odds. How often such intervals hold the target, and how much
less often those of the bootstrap do, stands in docs/decisions/0005-intervals.md.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Literal

import numpy as np
from jaxtyping import Float, Num
from pydantic import Field

from evaluation.core.types import Counts, Groups
from evaluation.iou import Protocol, Score, Tables
from evaluation.protocols import terms, total

LeftOut = Float[np.ndarray, " group"]
Ends = tuple[float, float]


def leave_one_out(sums: Tables, protocol: Protocol, ignore: int | None) -> Score:
    """Score all groups but one, each in turn.

    Args:
        sums: what each group adds to the score.
        protocol: what scores sums of it.
        ignore: the ignored class, or None.
    """
    return protocol(sums.sum(axis=0) - sums, ignore)


def standard_error(left_out: LeftOut) -> float:
    """Return the jackknife's standard error.

    Source: Efron and Tibshirani, "An Introduction to the Bootstrap", 1993, chapter 11.
    """
    groups = len(left_out)
    return float(np.sqrt((groups - 1) / groups * _squares(left_out).sum()))


def effective_groups(left_out: LeftOut) -> float:
    """Count the groups that move the score, as degrees of freedom and one.

    The variance of n numbers with kurtosis k is as uncertain as that of 2 n / (k - 1) + 1 normal
    ones: those two have the same coefficient of variation. If all groups move the score alike,
    that is n or more; if one does alone, about 3.

    Args:
        left_out: scores without each group.

    Returns:
        From 2 up to the number of groups.

    Source: degrees of freedom that match the variance of a variance: Satterthwaite, "An
    Approximate Distribution of Estimates of Variance Components", Biometrics Bulletin 2, 1946.
    """
    groups, squares = len(left_out), _squares(left_out)
    if not squares.any():
        return float(groups)
    squares /= squares.max()  # the squares of small squares would be 0
    kurtosis = float((squares**2).mean() / squares.mean() ** 2)
    freedom = groups - 1 if kurtosis <= 1 else 2 * groups / (kurtosis - 1)
    return float(np.clip(freedom, 1, groups - 1)) + 1


def student_ends(score: float, left_out: LeftOut, *, level: float, is_share: bool) -> Ends | None:
    """Return the ends of Student's interval around a score, with as many degrees of freedom.

    Args:
        score: of all groups.
        left_out: without each group.
        level: of the interval.
        is_share: whether it lies between 0 and 1, and so shall the interval; else it is a
            difference.

    Returns:
        Low and high; None where there is one group only, or one alone makes the score.
    """
    from scipy.special import expit, logit, stdtrit  # slow to import, and every verb imports this

    if len(left_out) < 2 or np.isnan(score) or np.isnan(left_out).any():
        return None
    reach = standard_error(left_out) * float(
        stdtrit(effective_groups(left_out) - 1, (1 + level) / 2)
    )
    if not is_share:
        return score - reach, score + reach
    if score in (0, 1):  # no log-odds
        return max(0.0, score - reach), min(1.0, score + reach)
    reach /= score * (1 - score)  # the slope of the log-odds
    return float(expit(logit(score) - reach)), float(expit(logit(score) + reach))


def _squares(left_out: LeftOut) -> LeftOut:
    squares: LeftOut = (left_out - left_out.mean()) ** 2
    return squares


Method = Literal["jackknife", "percentile", "expanded_percentile", "bca"]
Level = Annotated[float, Field(gt=0, lt=1)]
Resamples = Annotated[int, Field(ge=100)]

LEVEL = 0.95
RESAMPLES = 10_000
BATCH_VALUES = 1 << 22
"""Numbers in memory at a time (32 MB as float64), however many resamples and groups there are."""

GroupSums = Num[np.ndarray, "candidate group _ _"]
"""What each group adds to the score: its counts, or its `evaluation.protocols.terms`."""
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
    rng: np.random.Generator | None = None,
    method: Method = "jackknife",
    level: Level = LEVEL,
    resamples: Resamples = RESAMPLES,
) -> Interval | None:
    """Return an interval for the protocol's mean IoU.

    Args:
        counts: per image.
        groups: which group each image belongs to; any values that can be sorted.
        protocol: the definition of the score.
        ignore: the ignored class, or None.
        rng: where resamples come from; the same state gives the same interval. The jackknife
            draws none.
        method: how the interval is made.
        level: of the interval.
        resamples: how many times all groups are drawn anew.

    Returns:
        The interval; None where one group is all there is, or nothing was counted.
    """
    sums, scorer = additive_sums([counts], groups, protocol, ignore)
    return _interval(sums, scorer, ignore, rng, method, level, resamples)


def paired_interval(
    counts_a: Counts,
    counts_b: Counts,
    groups: Groups,
    protocol: Protocol,
    ignore: int | None,
    *,
    rng: np.random.Generator | None = None,
    method: Method = "jackknife",
    level: Level = LEVEL,
    resamples: Resamples = RESAMPLES,
) -> Interval | None:
    """Return an interval for the difference in mean IoU, a minus b, on the same images.

    Both are scored on the same groups, so what makes images hard for both cancels; two single
    intervals may overlap although the difference is certain.

    Args:
        counts_a: per image.
        counts_b: per image, of the same images in the same order.
        groups: as in `interval`.
        protocol: as in `interval`.
        ignore: as in `interval`.
        rng: as in `interval`.
        method: as in `interval`.
        level: as in `interval`.
        resamples: as in `interval`.

    Returns:
        The interval; None as in `interval`.
    """
    sums, scorer = additive_sums([counts_a, counts_b], groups, protocol, ignore)
    return _interval(sums, scorer, ignore, rng, method, level, resamples)


def _interval(
    sums: GroupSums,
    protocol: Protocol,
    ignore: int | None,
    rng: np.random.Generator | None,
    method: Method,
    level: float,
    resamples: int,
) -> Interval | None:
    """Return the interval of one candidate's score, or of the difference of two."""
    groups = sums.shape[1]
    if groups < 2:
        return None
    whole = _score_or_gap(protocol(sums.sum(axis=1), ignore).miou)
    left_out = _score_or_gap(np.stack([leave_one_out(one, protocol, ignore).miou for one in sums]))
    if method == "jackknife":
        ends = student_ends(float(whole), left_out, level=level, is_share=len(sums) == 1)
        return as_interval(ends, level)
    assert rng is not None, f"{method} draws resamples and needs an rng"
    scores = _score_or_gap(replicates(sums, protocol, ignore, rng=rng, resamples=resamples))
    if method == "bca":
        return bca(float(whole), scores, left_out, level=level)
    if method == "percentile":
        return percentile(scores, level=level)
    return expanded_percentile(scores, groups=groups, level=level)


def _score_or_gap(scores: Float[np.ndarray, "candidate ..."]) -> Float[np.ndarray, "..."]:
    return np.asarray(scores[0] - scores[1] if len(scores) > 1 else scores[0])


def as_interval(ends: Ends | None, level: float) -> Interval | None:
    """Say of what level the ends are."""
    return None if ends is None else Interval(*ends, level)


def additive_sums(
    counts: Sequence[Counts], groups: Groups, protocol: Protocol, ignore: int | None
) -> tuple[GroupSums, Protocol]:
    """Return what each group adds to each candidate's score, and what scores sums of it.

    Args:
        counts: of each candidate, per image.
        groups: which group each image belongs to.
        protocol: the definition of the score, of counts or of single images.
        ignore: the ignored class, or None.
    """
    summands = np.stack([terms(protocol, one, ignore) for one in counts])

    def scorer(summed: Tables, ignore: int | None) -> Score:
        return total(protocol, summed, ignore)

    return group_sums(summands, groups), scorer


def group_sums(counts: Num[np.ndarray, "candidate image _ _"], groups: Groups) -> GroupSums:
    """Sum what the images of each group add to the score; groups come in sorted order."""
    _, place = np.unique(groups, return_inverse=True)
    order = np.argsort(place, kind="stable")
    starts = np.flatnonzero(np.diff(place[order], prepend=-1))
    whole = np.issubdtype(counts.dtype, np.integer)
    kind = np.int64 if whole else np.float64
    return np.add.reduceat(counts[:, order], starts, axis=1, dtype=kind)


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
        sums: what each group adds to the score.
        protocol: what scores sums of it.
        ignore: the ignored class, or None.
        rng: where the resamples come from.
        resamples: how many.

    Returns:
        Mean IoU; NaN where a resample held nothing to count.
    """
    candidates, groups, *table = sums.shape
    # A resample's sums are the groups' sums times how often each was drawn: one product.
    flat = sums.transpose(1, 0, 2, 3).reshape(groups, -1).astype(np.float64)
    batch = max(1, BATCH_VALUES // max(groups, flat.shape[1]))
    scores = np.empty((candidates, resamples))
    for start in range(0, resamples, batch):
        size = min(batch, resamples - start)
        drawn = _times_drawn(size, groups, rng) @ flat
        scored = protocol(drawn.reshape(size, candidates, *table), ignore)
        scores[:, start : start + size] = scored.miou.T
    return scores


def percentile(scores: Float[np.ndarray, " resample"], *, level: Level = LEVEL) -> Interval | None:
    """Cut equal tails off a bootstrap distribution; None where it is nothing but NaN."""
    return _between(scores, (1 - level) / 2, (1 + level) / 2, level)


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

    if groups < 2:
        return None
    tail = float(ndtr(stdtrit(groups - 1, (1 - level) / 2) * np.sqrt(groups / (groups - 1))))
    return _between(scores, tail, 1 - tail, level)


def bca(
    score: float,
    scores: Float[np.ndarray, " resample"],
    left_out: LeftOut,
    *,
    level: Level = LEVEL,
) -> Interval | None:
    """Cut the tails off a bootstrap distribution, corrected for bias and acceleration.

    Args:
        score: of all groups.
        scores: one number a resample; those that are NaN are left out.
        left_out: scores without each group.
        level: of the interval.

    Returns:
        The interval; None where there is nothing but NaN.

    Source: Efron, "Better Bootstrap Confidence Intervals", Journal of the American Statistical
    Association 82, 1987.
    """
    from scipy.special import ndtr, ndtri

    known = scores[~np.isnan(scores)]
    below = ((known < score).sum() + (known <= score).sum()) / 2
    bias = float(ndtri((below + 0.5) / (len(known) + 1)))
    pulls = left_out.mean() - left_out
    size = 6 * float((pulls**2).sum()) ** 1.5
    acceleration = float((pulls**3).sum()) / size if size > 0 else 0.0
    tails = bias + ndtri([(1 - level) / 2, (1 + level) / 2])
    low, high = ndtr(bias + tails / (1 - acceleration * tails))
    return _between(scores, float(low), float(high), level)


def _between(
    scores: Float[np.ndarray, " resample"], low: float, high: float, level: float
) -> Interval | None:
    known = scores[~np.isnan(scores)]
    if not len(known):
        return None
    ends = np.quantile(known, [low, high])
    return Interval(float(ends[0]), float(ends[1]), level)


def _times_drawn(
    size: int, groups: int, rng: np.random.Generator
) -> Float[np.ndarray, "resample group"]:
    """Draw `groups` out of `groups` with replacement, `size` times."""
    drawn = rng.integers(groups, size=(size, groups))
    drawn += np.arange(size)[:, np.newaxis] * groups
    times = np.bincount(drawn.ravel(), minlength=size * groups)
    return times.reshape(size, groups).astype(np.float64)
