"""Which gains are significant, and backward elimination of the steps whose gain is not."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

from ensemble.pipeline.tuning.cross_fitted_counts import OuterSplit
from evaluation.core.classes import Classes
from evaluation.core.types import Array, Counts
from evaluation.intervals import LEVEL, Interval, paired_interval
from evaluation.iou import Protocol, Score, Tables
from evaluation.protocols import build_protocol, masked, score_images
from evaluation.run_metric import MASKED, set_metric
from postproc.chain import Chain

PRUNE_LEVEL = 0.99
"""Level of the interval that prunes a running trial: it is asked often, and a mistake is final."""


@dataclass(frozen=True)
class Gain:
    """A difference of scores over all images; no interval for a single group."""

    gain: float
    interval: Interval | None

    @property
    def is_significant(self) -> bool:
        """Whether the interval lies above 0."""
        return self.interval is not None and self.interval.low > 0


@dataclass(frozen=True)
class GainTest:
    """Compares counts of the same images by paired intervals over their groups.

    Counts may be those of the first images only.

    Args:
        classes: of the counts.
        groups: the group of each image.
        metric: spec of the protocol that scores.
    """

    classes: Classes
    groups: Array
    metric: str = MASKED

    @cached_property
    def _protocol(self) -> Protocol:
        return build_protocol(self.metric, self.classes)

    def score(self, counts: Counts) -> float:
        """Return the score under the metric."""
        return float(score_images(self._protocol, counts, self.classes.ignore).miou)

    def gain(self, new: Counts, old: Counts) -> Gain:
        """Return the gain of the first over the second."""
        interval = self._interval(new, old, self._protocol)
        return Gain(self.score(new) - self.score(old), interval)

    def should_prune(self, counts: Counts, best: Counts) -> bool:
        """Tell whether a chain is significantly worse than the best, on the images so far."""
        interval = self._interval(counts, best, self._protocol, PRUNE_LEVEL)
        return interval is not None and interval.high < 0

    def regressed_classes(self, new: Counts, old: Counts) -> list[str]:
        """Name the classes that the metric measures and whose IoU falls significantly."""
        regressed = []
        for label in set_metric(self.metric, self.classes).over:
            interval = self._interval(new, old, _class_iou(label))
            if interval is not None and interval.high < 0:
                regressed.append(self.classes.names[label])
        return regressed

    def _interval(
        self, a: Counts, b: Counts, protocol: Protocol, level: float = LEVEL
    ) -> Interval | None:
        groups = self.groups[: len(a)]
        return paired_interval(a, b, groups, protocol, self.classes.ignore, level=level)


@dataclass(frozen=True)
class AblationResult:
    """What a step adds to the chain around it; kept if significant, unless it regresses a class."""

    step: str
    kept: bool
    classes_that_fall: tuple[str, ...]
    gain: float
    interval: Interval | None


Ablated = tuple[Chain, list[AblationResult]]


def eliminate_all(split: OuterSplit, test: GainTest, chains: Sequence[Chain]) -> Ablated:
    """Eliminate steps from chains, and return what scores highest; of equals the first."""
    results = [eliminate(split, test, chain) for chain in chains]
    scores = [test.score(split.counts(chain, split.train_blocks)) for chain, _ in results]
    return results[max(range(len(results)), key=lambda k: (scores[k], -k))]


def eliminate(split: OuterSplit, test: GainTest, chain: Chain) -> Ablated:
    """Drop steps, the least gain first, until each one left has a significant gain.

    Returns:
        The chain that is left, and a result per step: those left in order, then those dropped.
    """
    dropped: list[AblationResult] = []
    while True:
        results = [_ablate(split, test, chain, k) for k in range(len(chain.specs))]
        failing = [k for k, result in enumerate(results) if not result.kept]
        if not failing:
            return chain, results + dropped
        worst = min(failing, key=lambda k: results[k].gain)
        dropped.append(results[worst])
        chain = _without_step(chain, worst)


def _ablate(split: OuterSplit, test: GainTest, chain: Chain, index: int) -> AblationResult:
    new = split.counts(chain, split.train_blocks)
    old = split.counts(_without_step(chain, index), split.train_blocks)
    gain = test.gain(new, old)
    regressed = test.regressed_classes(new, old) if gain.is_significant else []
    kept = gain.is_significant and not regressed
    return AblationResult(str(chain.specs[index]), kept, tuple(regressed), gain.gain, gain.interval)


def _without_step(chain: Chain, index: int) -> Chain:
    specs, steps = list(chain.specs), list(chain.steps)
    del specs[index], steps[index]
    return replace(chain, specs=tuple(specs), steps=tuple(steps))


def _class_iou(label: int) -> Callable[[Tables, int | None], Score]:
    protocol = masked()

    def score(counts: Tables, ignore: int | None) -> Score:
        result = protocol(counts, ignore)
        return Score(result.iou, result.iou[..., label])

    return score
