"""Confidence intervals of scores over groups of images.

Neighbouring images resemble each other, so groups (rover positions, patients, flights) are
resampled, not images. There are four methods: the jackknife, which is the default, and three ways
to read a bootstrap distribution.

The jackknife leaves out one group at a time. With few groups, its plain interval is wrong for two
reasons, and both are corrected here. If a rare class occurs in a few groups only, these move the
score and the others hardly do, so the standard error is as uncertain as with few groups:
`effective_groups` counts them. And a score lies between 0 and 1, so the interval is made on the
scale of log-odds. docs/decisions/0005-intervals.md compares the coverage of all four.
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

Method = Literal["jackknife", "percentile", "expanded_percentile", "bca"]
Level = Annotated[float, Field(gt=0, lt=1)]
Resamples = Annotated[int, Field(ge=100)]

LEVEL = 0.95
RESAMPLES = 10_000
BATCH_VALUES = 1 << 22
"""Numbers in memory at a time (32 MB as float64)."""

GroupSums = Num[np.ndarray, "candidate group _ _"]
"""Additive terms of each group: its counts, or its `evaluation.protocols.terms`."""
Replicates = Float[np.ndarray, "candidate resample"]
LeftOut = Float[np.ndarray, " group"]
Ends = tuple[float, float]


@dataclass(frozen=True)
class Interval:
    """A confidence interval.

    `level` is how often intervals made this way should hold the true value, 0 to 1.
    """

    low: float
    high: float
    level: float


def interval_to_dict(interval: Interval | None) -> dict[str, float] | None:
    """Return an interval as JSON values."""
    if interval is None:
        return None
    return {"low": interval.low, "high": interval.high, "level": interval.level}


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
        groups: the group of each image; any values that can be sorted.
        protocol: the definition of the score.
        ignore: the ignored class, or None.
        rng: draws the resamples; the jackknife needs none.
        method: one of four, see the module.
        level: of the interval.
        resamples: number of bootstrap resamples.

    Returns:
        None if there is only one group, or nothing was counted.

    Examples:
        >>> from evaluation.protocols import masked
        >>> counts = np.array([[[5, 1], [1, 3]], [[6, 0], [1, 3]], [[4, 2], [1, 3]]])
        >>> result = interval(counts, np.arange(3), masked(), None)
        >>> round(result.low, 2), round(result.high, 2)
        (0.31, 0.89)
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

    Images that are hard for both candidates cancel out; two single intervals may overlap although
    the difference is certain. The options are those of `interval`.
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
    groups = sums.shape[1]
    if groups < 2:
        return None
    whole = _score_or_gap(protocol(sums.sum(axis=1), ignore).miou)
    left_out = _score_or_gap(np.stack([leave_one_out(s, protocol, ignore).miou for s in sums]))
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
    """Return the interval with these ends."""
    return None if ends is None else Interval(*ends, level)


def leave_one_out(sums: Tables, protocol: Protocol, ignore: int | None) -> Score:
    """Score all groups but one, for each group."""
    return protocol(sums.sum(axis=0) - sums, ignore)


def standard_error(left_out: LeftOut) -> float:
    """Return the jackknife's standard error of a score, given the scores without each group.

    References:
        Efron and Tibshirani, "An Introduction to the Bootstrap", 1993, chapter 11.
    """
    groups = len(left_out)
    return float(np.sqrt((groups - 1) / groups * _squares(left_out).sum()))


def effective_groups(left_out: LeftOut) -> float:
    """Return the effective number of groups that move the score, 2 up to the number of groups.

    The variance of n numbers with kurtosis k is as uncertain as that of 2 n / (k - 1) + 1 normal
    ones: both have the same coefficient of variation. If all groups move the score alike, that is
    n or more; if a single one does, about 3.

    References:
        Satterthwaite, "An Approximate Distribution of Estimates of Variance Components",
        Biometrics Bulletin 2, 1946: degrees of freedom that match the variance of a variance.
    """
    return float(effective_freedom(_squares(left_out)[np.newaxis])[0]) + 1


def effective_freedom(
    squares: Float[np.ndarray, "difference group"],
) -> Float[np.ndarray, " difference"]:
    """Return the degrees of freedom of jackknife errors: the effective number of groups, less 1.

    Args:
        squares: of each group's influence on some scores or differences.
    """
    groups = squares.shape[1]
    largest = squares.max(axis=1, keepdims=True)
    still = largest[:, 0] == 0
    scaled = squares / np.where(largest > 0, largest, 1)  # the squares of small squares would be 0
    kurtosis = (scaled**2).mean(axis=1) / np.where(still, 1, scaled.mean(axis=1) ** 2)
    freedom = np.clip(2 * groups / np.maximum(kurtosis - 1, 1 / groups), 1, groups - 1)
    return np.asarray(np.where(still, groups - 1, freedom))


def student_quantile(freedom: float, level: float) -> float:
    """Return how many standard errors an interval reaches to each side."""
    from scipy.special import stdtrit  # slow to import

    return float(stdtrit(freedom, (1 + level) / 2))


def student_ends(score: float, left_out: LeftOut, *, level: float, is_share: bool) -> Ends | None:
    """Return the ends of Student's interval, with the degrees of freedom of `effective_groups`.

    Args:
        score: of all groups.
        left_out: scores without each group.
        level: of the interval.
        is_share: whether the score, and so the interval, lies between 0 and 1; else it is a
            difference.

    Returns:
        None if there is only one group, or only one that holds scored pixels.
    """
    from scipy.special import expit, logit  # slow to import

    if len(left_out) < 2 or np.isnan(score) or np.isnan(left_out).any():
        return None
    reach = standard_error(left_out) * student_quantile(effective_groups(left_out) - 1, level)
    if not is_share:
        return score - reach, score + reach
    if score in (0, 1):  # no log-odds
        return max(0.0, score - reach), min(1.0, score + reach)
    reach /= score * (1 - score)  # the slope of the log-odds
    return float(expit(logit(score) - reach)), float(expit(logit(score) + reach))


def _squares(left_out: LeftOut) -> LeftOut:
    squares: LeftOut = (left_out - left_out.mean()) ** 2
    return squares


def additive_sums(
    counts: Sequence[Counts], groups: Groups, protocol: Protocol, ignore: int | None
) -> tuple[GroupSums, Protocol]:
    """Return each candidate's additive terms per group, and a protocol that scores their sums."""
    summands = np.stack([terms(protocol, table, ignore) for table in counts])

    def scorer(summed: Tables, ignore: int | None) -> Score:
        return total(protocol, summed, ignore)

    return group_sums(summands, groups), scorer


def group_sums(counts: Num[np.ndarray, "candidate image _ _"], groups: Groups) -> GroupSums:
    """Sum the terms of the images of each group; groups are in sorted order."""
    _, index = np.unique(groups, return_inverse=True)
    order = np.argsort(index, kind="stable")
    starts = np.flatnonzero(np.diff(index[order], prepend=-1))
    kind = np.int64 if np.issubdtype(counts.dtype, np.integer) else np.float64
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

    Returns:
        Mean IoU; NaN for a resample without a scored pixel.
    """
    candidates, groups, *table = sums.shape
    # A resample's sums are the groups' sums times their multiplicities: one product.
    flat = sums.transpose(1, 0, 2, 3).reshape(groups, -1).astype(np.float64)
    batch = max(1, BATCH_VALUES // max(groups, flat.shape[1]))
    scores = np.empty((candidates, resamples))
    for start in range(0, resamples, batch):
        size = min(batch, resamples - start)
        resampled = _multiplicities(size, groups, rng) @ flat
        scored = protocol(resampled.reshape(size, candidates, *table), ignore)
        scores[:, start : start + size] = scored.miou.T
    return scores


def percentile(scores: Float[np.ndarray, " resample"], *, level: Level = LEVEL) -> Interval | None:
    """Cut equal tails off a bootstrap distribution; None if it is all NaN."""
    return _between(scores, (1 - level) / 2, (1 + level) / 2, level)


def expanded_percentile(
    scores: Float[np.ndarray, " resample"], *, groups: int, level: Level = LEVEL
) -> Interval | None:
    """Cut tails a little smaller than nominal off a bootstrap distribution.

    Plain percentiles are too narrow by sqrt((n - 1) / n) and by using the normal distribution
    instead of Student's; so the quantile q(p) is taken at p with
    z(p) = t(p, n - 1) sqrt(n / (n - 1)).

    NaN scores are left out.

    Returns:
        None if there is only one group, or all scores are NaN.

    References:
        Hesterberg, "What Teachers Should Know about the Bootstrap", arXiv 1411.5279, and
        `ExpandProbs` in his R package `resample`.
    """
    from scipy.special import ndtr, stdtrit

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

    NaN scores are left out. `left_out` are the scores without each group.

    Returns:
        None if all scores are NaN.

    References:
        Efron, "Better Bootstrap Confidence Intervals", Journal of the American Statistical
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


def _multiplicities(
    size: int, groups: int, rng: np.random.Generator
) -> Float[np.ndarray, "resample group"]:
    """Draw all groups with replacement, `size` times; count how often each is drawn."""
    drawn = rng.integers(groups, size=(size, groups))
    drawn += np.arange(size)[:, np.newaxis] * groups
    times = np.bincount(drawn.ravel(), minlength=size * groups)
    return times.reshape(size, groups).astype(np.float64)
