"""Fusion strategies: how maps of many members become one.

A factory gives a `Fusion` where there is nothing to learn, else a `Learned`. Its positional
parameters come from the surroundings:

    classes  how many classes there are
    ignore   the class that is not scored, or None
    kinds    one word a member: `probabilities` or `one_vs_rest`

and so do the defaults of the options `floor` (half the smallest probability that the stored maps
tell from zero) and `seed`.
"""

from evaluation.core.specs import Table

STRATEGIES = Table(
    "fusion strategy",
    {
        "evidence": "ensemble.strategies.evidence:evidence",
        "gate": "ensemble.strategies.gate:gate",
        "geometric_mean": "ensemble.strategies.means:geometric_mean",
        "greedy": "ensemble.strategies.greedy:greedy",
        "harmonic_mean": "ensemble.strategies.means:harmonic_mean",
        "log_odds": "ensemble.strategies.means:log_odds",
        "majority_vote": "ensemble.strategies.votes:majority_vote",
        "max": "ensemble.strategies.order_statistics:maximum",
        "mean": "ensemble.strategies.means:mean",
        "median": "ensemble.strategies.order_statistics:median",
        "min": "ensemble.strategies.order_statistics:minimum",
        "per_class_vote": "ensemble.strategies.votes:per_class_vote",
        "power_mean": "ensemble.strategies.means:power_mean",
        "simple": "ensemble.strategies.simple:simple",
        "stacking": "ensemble.strategies.stacking:stacking",
        "stacking_boosted": "ensemble.strategies.stacking_boosted:stacking_boosted",
        "stacking_conv": "ensemble.strategies.stacking_conv:stacking_conv",
        "staple": "ensemble.strategies.staple:staple",
        "weighted_mean": "ensemble.strategies.weighted_mean:weighted_mean",
    },
)

FUSIONS = Table(
    "fusion",
    {
        "Calibrated": "ensemble.calibration.calibrated:Calibrated",
        "CalibratedMembers": "ensemble.calibration.calibrated:CalibratedMembers",
        "Evidence": "ensemble.strategies.evidence:Evidence",
        "Gate": "ensemble.strategies.gate:Gate",
        "GeometricMean": "ensemble.strategies.means:GeometricMean",
        "HarmonicMean": "ensemble.strategies.means:HarmonicMean",
        "Isotonic": "ensemble.calibration.calibrators:Isotonic",
        "LogOdds": "ensemble.strategies.means:LogOdds",
        "MajorityVote": "ensemble.strategies.votes:MajorityVote",
        "Mean": "ensemble.strategies.means:Mean",
        "OrderStatistic": "ensemble.strategies.order_statistics:OrderStatistic",
        "PerClassVote": "ensemble.strategies.votes:PerClassVote",
        "PowerMean": "ensemble.strategies.means:PowerMean",
        "Stacking": "ensemble.strategies.stacking:Stacking",
        "StackingBoosted": "ensemble.strategies.stacking_boosted:StackingBoosted",
        "StackingConv": "ensemble.strategies.stacking_conv:StackingConv",
        "Staple": "ensemble.strategies.staple:Staple",
        "Temperature": "ensemble.calibration.calibrators:Temperature",
        "Vector": "ensemble.calibration.calibrators:Vector",
        "WeightedMean": "ensemble.strategies.weighted_mean:WeightedMean",
        "WeightedVote": "ensemble.strategies.simple:WeightedVote",
    },
)
"""What the strategies give, by class name: only these are read back from disk."""

SEES_SPECIALISTS = frozenset({"evidence", "gate", "per_class_vote"})
"""Strategies that take a family of specialists as it is (kind `one_vs_rest`: each class against the
rest, not summing to 1); all others get it renormalised, as one more member."""

LOOKS_AROUND = frozenset({"stacking_conv"})
"""Strategies that look at the maps around a pixel, those of pixels that are not scored too."""

MAPS, PREDS = "leaves agreeing maps", "leaves agreeing predictions"
ORDER, WEIGHT_0, FINDS = "any order", "weight 0 has no effect", "as good as the one good member"

LAWS = {
    "evidence": frozenset({ORDER, FINDS}),
    "gate": frozenset({MAPS, PREDS, ORDER}),
    "geometric_mean": frozenset({MAPS, PREDS, ORDER}),
    "greedy": frozenset({MAPS, PREDS, WEIGHT_0, FINDS}),
    "harmonic_mean": frozenset({MAPS, PREDS, ORDER}),
    "log_odds": frozenset({MAPS, PREDS, ORDER}),
    "majority_vote": frozenset({PREDS, ORDER}),
    "max": frozenset({MAPS, PREDS, ORDER}),
    "mean": frozenset({MAPS, PREDS, ORDER}),
    "median": frozenset({MAPS, PREDS, ORDER}),
    "min": frozenset({MAPS, PREDS, ORDER}),
    "per_class_vote": frozenset({MAPS, PREDS, ORDER, WEIGHT_0, FINDS}),
    "power_mean": frozenset({PREDS, ORDER}),
    "simple": frozenset({PREDS, ORDER, WEIGHT_0}),
    "stacking": frozenset({ORDER, FINDS}),
    "stacking_boosted": frozenset(),
    "stacking_conv": frozenset(),
    "staple": frozenset({PREDS, ORDER}),
    "weighted_mean": frozenset({MAPS, PREDS, ORDER, WEIGHT_0, FINDS}),
}
"""What each strategy promises beyond giving probabilities; the tests hold it to that."""
