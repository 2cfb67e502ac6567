"""Shapley values: a fair share of the ensemble's score for each member."""

from dataclasses import dataclass
from itertools import combinations

import numpy as np
from jaxtyping import Float

from ensemble.diversity.judge import Judge
from ensemble.diversity.subsets import Subset
from evaluation.bootstrap import Interval

EXACT_MEMBERS = 8
"""Up to here all subsets are counted: 255, about as many as 32 orders of nine members hold."""

Scores = Float[np.ndarray, "subset *resamples"]
Shares = Float[np.ndarray, "member *resamples"]


@dataclass(frozen=True)
class Formula:
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
        """Return the standard errors that come of drawing orders; 0 where all orders are in."""
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
        intervals: over groups of pictures.
        errors: standard errors that come of drawing orders, beside the intervals.
    """

    value: Float[np.ndarray, " member"]
    intervals: tuple[Interval | None, ...]
    errors: Float[np.ndarray, " member"]


def shapley(judge: Judge, formula: Formula) -> Values:
    """Return the Shapley values of members; an interval resamples the scores of all subsets."""
    scores = judge.score(formula.subsets).miou
    drawn = formula.values(judge.replicates(formula.subsets))
    intervals = tuple(judge.interval(values) for values in drawn)
    return Values(formula.values(scores), intervals, formula.sampling_errors(scores))


def formula_for(members: int, *, orders: int, rng: np.random.Generator) -> Formula:
    """Return the exact formula for few members, a sampled one for many.

    Args:
        members: how many.
        orders: how many orders to draw where members are many; each comes with its reverse.
        rng: draws the orders.
    """
    return exact(members) if members <= EXACT_MEMBERS else sampled(members, orders=orders, rng=rng)


def exact(members: int) -> Formula:
    """Return the formula over all subsets."""
    from scipy.special import comb

    everyone = range(members)
    subsets = sorted(s for size in everyone for s in combinations(everyone, size + 1))
    inside = np.array([[member in subset for subset in subsets] for member in everyone])
    others = inside.sum(axis=0) - inside
    weights = np.where(inside, 1, -1) / (members * comb(members - 1, others))
    return Formula(tuple(subsets), weights[np.newaxis])


def sampled(members: int, *, orders: int, rng: np.random.Generator) -> Formula:
    """Return the formula over random orders, each beside its reverse.

    Who comes early in an order comes late in its reverse, so much of what chance does cancels: the
    two are one draw.

    Args:
        members: how many.
        orders: how many to draw, at least 2; as many reverses come on top.
        rng: draws the orders.

    Source: Castro, Gomez and Tejada, "Polynomial Calculation of the Shapley Value Based on
    Sampling", 2009; reverses: Mitchell et al., "Sampling Permutations for Shapley Value
    Estimation", JMLR 2022.
    """
    drawn = rng.permuted(np.tile(np.arange(members), (orders, 1)), axis=1)
    begun = {
        tuple(sorted(order[:size]))
        for line in drawn.tolist()
        for order in (line, line[::-1])
        for size in range(1, members + 1)
    }
    place = {subset: number for number, subset in enumerate(sorted(begun))}
    weights = np.zeros((orders, members, len(place)))
    for weight, line in zip(weights, drawn.tolist(), strict=True):
        for order in (line, line[::-1]):
            for size, member in enumerate(order):
                weight[member, place[tuple(sorted(order[: size + 1]))]] += 1 / 2
                if size:
                    weight[member, place[tuple(sorted(order[:size]))]] -= 1 / 2
    return Formula(tuple(place), weights)
