"""Shapley values: a fair share of the ensemble's score for each member.

Which members can go: backward elimination while the loss stays within noise.

How the score of the mean grows with the number of members.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from jaxtyping import Float

from ensemble.diversity.subset_scorer import ScoreDifference, Subset, SubsetScorer
from evaluation.intervals import Interval

EXACT_MEMBERS = 8
"""Up to here all subsets are counted: 255; four circles of nine members hold as many."""

Scores = Float[np.ndarray, "subset *resamples"]
Shares = Float[np.ndarray, "member *resamples"]


@dataclass(frozen=True)
class ShapleyEstimator:
    """Shapley values as weighted sums of the scores of subsets.

    A member's value is what it adds to the score of those before it, averaged over the orders in
    which members may come. The empty ensemble scores 0, so the values sum to the score of all.

    Args:
        subsets: whose scores are needed, in ascending order.
        weights: of each subset's score in each member's value, by draw; the value is their mean.

    Source: Shapley, "A Value for n-Person Games", 1953; for members of ensembles Rozemberczki and
    Sarkar, "The Shapley Value of Classifiers in Ensemble Games", CIKM 2021.
    """

    subsets: tuple[Subset, ...]
    weights: Float[np.ndarray, "draw member subset"]

    @property
    def exact(self) -> bool:
        """Whether every order of the members is in it."""
        return len(self.weights) == 1

    def values(self, scores: Scores) -> Shares:
        """Return the members' values from the scores of the subsets."""
        values: Shares = self.weights.mean(axis=0) @ scores
        return values

    def sampling_errors(self, scores: Float[np.ndarray, " subset"]) -> Float[np.ndarray, " member"]:
        """Return the standard errors that come of drawing; 0 where all orders are in."""
        if self.exact:
            return np.zeros(self.weights.shape[1])
        drawn = self.weights @ scores
        errors: Float[np.ndarray, " member"] = drawn.std(axis=0, ddof=1) / np.sqrt(len(drawn))
        return errors


@dataclass(frozen=True)
class Values:
    """Shapley values of members.

    Args:
        value: one a member; they sum to the score of all.
        intervals: over groups of images.
        errors: standard errors that come of drawing, beside the intervals.
    """

    value: Float[np.ndarray, " member"]
    intervals: tuple[Interval | None, ...]
    errors: Float[np.ndarray, " member"]


def shapley(judge: SubsetScorer, formula: ShapleyEstimator) -> Values:
    """Return the Shapley values of members; an interval resamples the scores of all subsets."""
    scores = judge.score(formula.subsets).miou
    drawn = formula.values(judge.replicates(formula.subsets))
    intervals = tuple(judge.interval(values) for values in drawn)
    return Values(formula.values(scores), intervals, formula.sampling_errors(scores))


def formula_for(members: int, *, circles: int, rng: np.random.Generator) -> ShapleyEstimator:
    """Return the exact formula for few members, a sampled one for many.

    Args:
        members: how many.
        circles: how many to draw where members are many.
        rng: draws them.
    """
    few = members <= EXACT_MEMBERS
    return exact(members) if few else sampled(members, circles=circles, rng=rng)


def exact(members: int) -> ShapleyEstimator:
    """Return the formula over all subsets."""
    from scipy.special import comb

    everyone = range(members)
    subsets = sorted(s for size in everyone for s in combinations(everyone, size + 1))
    inside = np.array([[member in subset for subset in subsets] for member in everyone])
    others = inside.sum(axis=0) - inside
    weights = np.where(inside, 1, -1) / (members * comb(members - 1, others))
    return ShapleyEstimator(tuple(subsets), weights[np.newaxis])


def sampled(members: int, *, circles: int, rng: np.random.Generator) -> ShapleyEstimator:
    """Return the formula over random circles of the members.

    A circle is read from each member on, both ways round: as many orders as twice the members, in
    which each member takes each place twice. Whoever comes first adds ten times what later ones
    add, and with plain orders chance decides how often that was whom: on six real members 16 orders
    and their reverses were off by 0.027, a third of the value; two circles by 0.0008. The orders of
    a circle begin with its arcs, so they cost `members * (members - 1) + 1` subsets.

    Args:
        members: how many, at least 2.
        circles: how many to draw, at least 2, since their differences tell the error.
        rng: draws them.

    Source: Castro, Gomez and Tejada, "Polynomial Calculation of the Shapley Value Based on
    Sampling", 2009; a stratum a place: Castro et al., "Improving Polynomial Estimation of the
    Shapley Value by Stratified Random Sampling with Optimum Allocation", 2017, both in Computers
    and Operations Research.
    """
    drawn = [_orders(rng.permutation(members).tolist()) for _ in range(circles)]
    begun = {s for orders in drawn for order in orders for s in _beginnings(order)}
    place = {subset: number for number, subset in enumerate(sorted(begun))}
    weights = np.zeros((circles, members, len(place)))
    for weight, orders in zip(weights, drawn, strict=True):
        for order in orders:
            places = [place[subset] for subset in _beginnings(order)]
            for size, member in enumerate(order):
                weight[member, places[size]] += 1 / len(orders)
                if size:
                    weight[member, places[size - 1]] -= 1 / len(orders)
    return ShapleyEstimator(tuple(place), weights)


def _orders(circle: list[int]) -> list[list[int]]:
    turned = [circle[start:] + circle[:start] for start in range(len(circle))]
    return turned + [order[::-1] for order in turned]


def _beginnings(order: list[int]) -> list[Subset]:
    return [tuple(sorted(order[: size + 1])) for size in range(len(order))]


TOLERANCE = 0.002
"""Largest loss of mean IoU that counts as none."""


@dataclass(frozen=True)
class Removal:
    """A member fewer.

    Args:
        dropped: which one.
        kept: who is left.
        change: of the score against that of all members.
    """

    dropped: int
    kept: Subset
    change: ScoreDifference


@dataclass(frozen=True)
class Elimination:
    """What can be dropped.

    Args:
        steps: one after the other; none where nobody can go.
        refused: the step that came next and lost too much; None where one member is left.
    """

    steps: tuple[Removal, ...]
    refused: Removal | None


def eliminate(judge: SubsetScorer, members: int, *, tolerance: float = TOLERANCE) -> Elimination:
    """Drop the member that is missed least, again and again, while the loss stays within noise.

    The best of several is chosen by the score it is told with, so the loss is a little larger on
    other images. A step asks for the subsets that are one smaller, in one pass over the maps.

    Args:
        judge: of subsets.
        members: how many there are.
        tolerance: largest loss against all members.
    """
    kept = everyone = tuple(range(members))
    steps: list[Removal] = []
    while len(kept) > 1:
        smaller = without_one(kept)
        best = int(np.argmax(judge.score(smaller).miou))
        step = Removal(kept[best], smaller[best], judge.change(smaller[best], everyone))
        if not step.change.within_noise(tolerance):
            return Elimination(tuple(steps), step)
        steps.append(step)
        kept = step.kept
    return Elimination(tuple(steps), None)


def without_one(members: Subset) -> list[Subset]:
    """List the subsets that lack one member, in the order of who is lacking."""
    return [tuple(m for m in members if m != dropped) for dropped in members]


@dataclass(frozen=True)
class SizeScore:
    """What so many members score.

    Args:
        members: how many.
        miou: of their mean, averaged over the subsets of this size.
        gain: over one member fewer; None for one member, and where no smaller size was counted.
    """

    members: int
    miou: float
    gain: ScoreDifference | None


def size_curve(judge: SubsetScorer, subsets: Sequence[Subset]) -> list[SizeScore]:
    """Average the scores of subsets by their size; intervals resample the groups of images.

    Args:
        judge: of subsets.
        subsets: distinct; of one size each member should be in as many, lest the sizes differ by
            who is in them. All subsets are so, and so are those of a sampled Shapley formula.

    Returns:
        The sizes that there are, ascending.
    """
    sizes = np.array([len(subset) for subset in subsets])
    scores, drawn = judge.score(subsets).miou, judge.replicates(subsets)
    found: list[SizeScore] = []
    for size in np.unique(sizes).tolist():
        own, fewer = sizes == size, sizes == size - 1
        gain = None
        if fewer.any():
            value = scores[own].mean() - scores[fewer].mean()
            ends = judge.interval(drawn[own].mean(axis=0) - drawn[fewer].mean(axis=0))
            gain = ScoreDifference(float(value), ends)
        found.append(SizeScore(size, float(scores[own].mean()), gain))
    return found
