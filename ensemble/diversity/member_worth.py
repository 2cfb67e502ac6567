"""What each member is worth: Shapley values, backward elimination, and scores by ensemble size."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from jaxtyping import Float

from ensemble.diversity.subset_scorer import ScoreDifference, Subset, SubsetScorer
from evaluation.intervals import Interval

EXACT_MEMBERS = 8
"""Up to here all subsets are counted: 255; four permutations of nine members need as many."""

TOLERANCE = 0.002
"""Largest loss of mean IoU that counts as none."""

Scores = Float[np.ndarray, "subset *resamples"]
Shares = Float[np.ndarray, "member *resamples"]


@dataclass(frozen=True)
class ShapleyEstimator:
    """Shapley values as weighted sums of the scores of subsets.

    A member's value is what it adds to the score of those before it, averaged over the orders in
    which members may be added. The empty ensemble scores 0, so the values sum to the score of all.

    Args:
        subsets: whose scores are needed, in ascending order.
        weights: of each subset's score in each member's value, by draw; the value is their mean.

    References:
        Shapley, "A Value for n-Person Games", 1953; for members of ensembles Rozemberczki and
        Sarkar, "The Shapley Value of Classifiers in Ensemble Games", CIKM 2021.
    """

    subsets: tuple[Subset, ...]
    weights: Float[np.ndarray, "draw member subset"]

    @property
    def exact(self) -> bool:
        """Whether all orders of the members are included."""
        return len(self.weights) == 1

    def values(self, scores: Scores) -> Shares:
        """Return the members' values from the scores of the subsets."""
        values: Shares = self.weights.mean(axis=0) @ scores
        return values

    def sampling_errors(self, scores: Float[np.ndarray, " subset"]) -> Float[np.ndarray, " member"]:
        """Return the standard errors due to sampling; 0 where all orders are included."""
        if self.exact:
            return np.zeros(self.weights.shape[1])
        by_draw = self.weights @ scores
        errors: Float[np.ndarray, " member"] = by_draw.std(axis=0, ddof=1) / np.sqrt(len(by_draw))
        return errors


@dataclass(frozen=True)
class ShapleyValues:
    """Shapley values of members.

    Args:
        value: one per member; they sum to the score of all.
        intervals: over groups of images.
        errors: standard errors due to sampling orders, not included in the intervals.
    """

    value: Float[np.ndarray, " member"]
    intervals: tuple[Interval | None, ...]
    errors: Float[np.ndarray, " member"]


def shapley(scorer: SubsetScorer, estimator: ShapleyEstimator) -> ShapleyValues:
    """Return the Shapley values of members; an interval resamples the scores of all subsets."""
    scores = scorer.score(estimator.subsets).miou
    replicates = estimator.values(scorer.replicates(estimator.subsets))
    intervals = tuple(scorer.interval(values) for values in replicates)
    return ShapleyValues(estimator.values(scores), intervals, estimator.sampling_errors(scores))


def shapley_estimator(
    members: int, *, permutations: int, rng: np.random.Generator
) -> ShapleyEstimator:
    """Return the exact estimator for few members, a sampled one for many.

    Args:
        permutations: number of permutations to draw where members are many.

    Examples:
        >>> shapley_estimator(2, permutations=4, rng=np.random.default_rng(0)).subsets
        ((0,), (0, 1), (1,))
    """
    if members <= EXACT_MEMBERS:
        return exact_estimator(members)
    return sampled_estimator(members, permutations=permutations, rng=rng)


def exact_estimator(members: int) -> ShapleyEstimator:
    """Return the estimator over all subsets."""
    from scipy.special import comb

    indices = range(members)
    subsets = sorted(s for size in indices for s in combinations(indices, size + 1))
    inside = np.array([[member in subset for subset in subsets] for member in indices])
    others = inside.sum(axis=0) - inside
    weights = np.where(inside, 1, -1) / (members * comb(members - 1, others))
    return ShapleyEstimator(tuple(subsets), weights[np.newaxis])


def sampled_estimator(
    members: int, *, permutations: int, rng: np.random.Generator
) -> ShapleyEstimator:
    """Return the estimator over random cyclic permutations of the members.

    A permutation is read as a circle from each member on, in both directions: twice as many orders
    as members, in which each member takes each position twice. The first member adds ten times what
    later ones add, and with plain orders chance decides how often each one is first: on six real
    members 16 orders and their reverses were off by 0.027, a third of the value; two circles by
    0.0008. The prefixes of all orders are the arcs of the circle, so one costs
    `members * (members - 1) + 1` subsets.

    Args:
        members: number of members, at least 2.
        permutations: how many to draw, at least 2, since their differences give the error.

    References:
        Castro, Gomez and Tejada, "Polynomial Calculation of the Shapley Value Based on Sampling",
        2009; one stratum per position: Castro et al., "Improving Polynomial Estimation of the
        Shapley Value by Stratified Random Sampling with Optimum Allocation", 2017, both in
        Computers and Operations Research.
    """
    drawn = [_orders(rng.permutation(members).tolist()) for _ in range(permutations)]
    subsets = sorted({s for orders in drawn for order in orders for s in _prefixes(order)})
    index = {subset: number for number, subset in enumerate(subsets)}
    weights = np.zeros((permutations, members, len(subsets)))
    for weight, orders in zip(weights, drawn, strict=True):
        for order in orders:
            indices = [index[subset] for subset in _prefixes(order)]
            for size, member in enumerate(order):
                weight[member, indices[size]] += 1 / len(orders)
                if size:
                    weight[member, indices[size - 1]] -= 1 / len(orders)
    return ShapleyEstimator(tuple(subsets), weights)


def _orders(circle: list[int]) -> list[list[int]]:
    rotated = [circle[start:] + circle[:start] for start in range(len(circle))]
    return rotated + [order[::-1] for order in rotated]


def _prefixes(order: list[int]) -> list[Subset]:
    return [tuple(sorted(order[: size + 1])) for size in range(len(order))]


@dataclass(frozen=True)
class Removal:
    """One member fewer.

    Args:
        dropped: the member.
        kept: the remaining members.
        change: of the score against that of all members.
    """

    dropped: int
    kept: Subset
    change: ScoreDifference


@dataclass(frozen=True)
class Elimination:
    """The members that can be dropped.

    Args:
        steps: one after the other; none where no member can be dropped.
        refused: the step that came next and lost too much; None where one member is left.
    """

    steps: tuple[Removal, ...]
    refused: Removal | None


def eliminate_members(
    scorer: SubsetScorer, members: int, *, tolerance: float = TOLERANCE
) -> Elimination:
    """Drop the member whose removal costs least, repeatedly, while the loss stays within noise.

    The best of several is chosen by the very score that is reported, so the loss is a little larger
    on other images. A step scores the subsets that are one smaller, in one pass over the maps.

    Args:
        tolerance: largest loss against all members.
    """
    kept = everyone = tuple(range(members))
    steps: list[Removal] = []
    while len(kept) > 1:
        smaller = subsets_without_one(kept)
        best = int(np.argmax(scorer.score(smaller).miou))
        step = Removal(kept[best], smaller[best], scorer.change(smaller[best], everyone))
        if not step.change.within_noise(tolerance):
            return Elimination(tuple(steps), step)
        steps.append(step)
        kept = step.kept
    return Elimination(tuple(steps), None)


def subsets_without_one(members: Subset) -> list[Subset]:
    """List the subsets that lack one member, in the order of the missing member."""
    return [tuple(m for m in members if m != dropped) for dropped in members]


@dataclass(frozen=True)
class SizeScore:
    """Score of ensembles of one size.

    Args:
        miou: of their mean, averaged over the subsets of this size.
        gain: over one member fewer; None for one member, and where no smaller size was scored.
    """

    members: int
    miou: float
    gain: ScoreDifference | None


def size_curve(scorer: SubsetScorer, subsets: Sequence[Subset]) -> list[SizeScore]:
    """Average the scores of subsets by their size; intervals resample the groups of images.

    Args:
        subsets: distinct; each member should be in as many of each size, else sizes differ by which
            members they contain. That holds for all subsets, and for those of a sampled estimator.

    Returns:
        The sizes that occur, ascending.
    """
    sizes = np.array([len(subset) for subset in subsets])
    scores, replicates = scorer.score(subsets).miou, scorer.replicates(subsets)
    curve: list[SizeScore] = []
    for size in np.unique(sizes).tolist():
        current, smaller = sizes == size, sizes == size - 1
        gain = None
        if smaller.any():
            value = scores[current].mean() - scores[smaller].mean()
            difference = replicates[current].mean(axis=0) - replicates[smaller].mean(axis=0)
            gain = ScoreDifference(float(value), scorer.interval(difference))
        curve.append(SizeScore(size, float(scores[current].mean()), gain))
    return curve
