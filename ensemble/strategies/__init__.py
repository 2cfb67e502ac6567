"""Fusion strategies by name: how the maps of many members become one.

A factory takes its options by keyword. Where it has these parameters, they are filled in:

    classes  number of classes
    ignore   the class that is not scored, or None
    kinds    one word per member: `probabilities`, or `one_vs_rest` for a set of specialists
    metric   what is optimised, an `evaluation.run_metric.SetMetric`; None is the masked mean IoU

and so are the defaults of its options `floor` (half the smallest probability that the stored maps
tell from zero) and `seed`. It returns a `Fusion` where there is nothing to learn, else a
`LearnedFusion`.
"""

from typing import Literal, TypeAlias

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
        "Decided": "ensemble.decision:Decided",
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
"""What the strategies return, by class name: only these are read back from disk."""

ACCEPTS_ONE_VS_REST = frozenset({"evidence", "gate", "per_class_vote"})
"""Strategies that take specialists as they are (kind `one_vs_rest`: each class against the rest,
not summing to 1); all others get them renormalised, as one more member."""

Missing: TypeAlias = Literal["refuse", "skip", "renormalise"]
"""What happens to images of which a member has no map: nothing is fused; they are left out; or they
are fused from the members that have one, with renormalised weights."""

MISSING: tuple[Missing, ...] = ("refuse", "skip", "renormalise")

RENORMALISES = frozenset(
    {
        "geometric_mean",
        "greedy",
        "harmonic_mean",
        "log_odds",
        "majority_vote",
        "max",
        "mean",
        "median",
        "min",
        "per_class_vote",
        "power_mean",
        "simple",
        "weighted_mean",
    }
)
"""Strategies that are defined where some members have no map of an image: the others' weights are
divided by their sum. What the other strategies learn holds for all members together."""

NEEDS_CONTEXT = frozenset({"stacking_conv"})
"""Strategies whose result at a pixel depends on the maps around it, unscored pixels included."""
