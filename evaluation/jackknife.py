"""Intervals by leaving out one group of pictures at a time: what each group moves by itself.

An interval made of a standard error is as good as the distribution it takes for the score. Two
things make it wrong with few groups, and both are mended here. Where a rare class lies in a few of
the groups, these move the score and the rest hardly does: the standard error is as uncertain as if
there were only few groups, which is what `effective_groups` counts. And a score lies between 0 and
1, so it is taken on the scale of log-odds. How often such intervals hold the truth, and how much
less often those of the bootstrap do, stands in docs/decisions/0005-intervals.md.
"""

import numpy as np
from jaxtyping import Float

from evaluation.iou import Protocol, Score, Tables

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
