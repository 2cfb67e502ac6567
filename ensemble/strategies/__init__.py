"""Fusion strategies: how maps of many members become one.

A factory gives a `Fusion` where there is nothing to learn, else a `Learned`. Its positional
parameters come from the surroundings:

    classes  how many classes there are
    ignore   the class that is not scored, or None
    kinds    one word a member: `probabilities` or `one_vs_rest`

and so do the defaults of the options `floor` (half the smallest probability that the stored maps
tell from zero) and `seed`.
"""

from evaluation.ground.specs import Table

STRATEGIES = Table(
    "fusion strategy",
    {
        "geometric_mean": "ensemble.strategies.geometric_mean:geometric_mean",
        "majority_vote": "ensemble.strategies.majority_vote:majority_vote",
        "mean": "ensemble.strategies.mean:mean",
        "per_class_vote": "ensemble.strategies.per_class_vote:per_class_vote",
        "stacking": "ensemble.strategies.stacking:stacking",
        "weighted_mean": "ensemble.strategies.weighted_mean:weighted_mean",
    },
)

FUSIONS = Table(
    "fusion",
    {
        "GeometricMean": "ensemble.strategies.geometric_mean:GeometricMean",
        "MajorityVote": "ensemble.strategies.majority_vote:MajorityVote",
        "Mean": "ensemble.strategies.mean:Mean",
        "PerClassVote": "ensemble.strategies.per_class_vote:PerClassVote",
        "Stacking": "ensemble.strategies.stacking:Stacking",
        "WeightedMean": "ensemble.strategies.weighted_mean:WeightedMean",
    },
)
"""What the strategies give, by class name: only these are read back from disk."""

SEES_SPECIALISTS = frozenset({"per_class_vote"})
"""Strategies that take a family of specialists as it is (kind `one_vs_rest`: each class against the
rest, not summing to 1); all others get it renormalised, as one more member."""

LAWS = {
    "geometric_mean": frozenset({"leaves agreeing maps", "leaves agreeing guesses", "any order"}),
    "majority_vote": frozenset({"leaves agreeing guesses", "any order"}),
    "mean": frozenset({"leaves agreeing maps", "leaves agreeing guesses", "any order"}),
    "per_class_vote": frozenset({"leaves agreeing maps", "leaves agreeing guesses", "any order"}),
    "stacking": frozenset({"any order"}),
    "weighted_mean": frozenset({"leaves agreeing maps", "leaves agreeing guesses", "any order"}),
}
"""What each strategy promises beyond giving probabilities; the tests hold it to that."""
