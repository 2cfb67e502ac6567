"""Backward elimination: what cannot be shown to help goes, one step after the other.

Whether a gain is real: paired intervals over groups, of the mean and of each class.
"""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from ensemble.pipeline.tuning.outer_split import Level
from evaluation.core.classes import Classes
from evaluation.core.types import Array, Counts
from evaluation.intervals import LEVEL, Interval, paired_interval
from evaluation.iou import Protocol, Score, Tables
from evaluation.protocols import PROTOCOLS
from postproc.chain import Chain

PROTOCOL = "masked"
SURE = 0.99
"""Level of a look at a trial under way: looks are many, and a good chain once stopped is lost."""


@dataclass(frozen=True)
class Judge:
    """Compares counts of the same images.

    Args:
        classes: names, and the ignored class.
        groups: of each image.
    """

    classes: Classes
    groups: Array

    def score(self, counts: Counts) -> float:
        """Return the masked mean IoU."""
        return float(_protocol()(counts.sum(axis=0), self.classes.ignore).miou)

    def gain(self, with_it: Counts, without: Counts) -> "Gain":
        """Return what the first has over the second."""
        found = self._interval(with_it, without, _protocol())
        return Gain(self.score(with_it) - self.score(without), found)

    def hopeless(self, counts: Counts, best: Counts) -> bool:
        """Tell whether a chain is surely worse than the best, by the images seen so far."""
        found = self._interval(counts, best, _protocol(), SURE)
        return found is not None and found.high < 0

    def falls(self, with_it: Counts, without: Counts) -> list[str]:
        """Name the classes whose IoU surely falls."""
        surely = []
        for label in self.classes.scored:
            found = self._interval(with_it, without, _one_class(label))
            if found is not None and found.high < 0:
                surely.append(self.classes.names[label])
        return surely

    def _interval(
        self, a: Counts, b: Counts, protocol: Protocol, level: float = LEVEL
    ) -> Interval | None:
        groups = self.groups[: len(a)]
        return paired_interval(a, b, groups, protocol, self.classes.ignore, level=level)


@dataclass(frozen=True)
class Gain:
    """A difference of masked mean IoU.

    Args:
        difference: over all images.
        interval: None where there is one group only.
    """

    difference: float
    interval: Interval | None

    @property
    def real(self) -> bool:
        """Tell whether the interval lies above 0."""
        return self.interval is not None and self.interval.low > 0

    def document(self) -> dict[str, Any]:
        """Return it as JSON values."""
        return {"gain": self.difference, "interval": self.interval and asdict(self.interval)}


def _protocol() -> Protocol:
    protocol: Protocol = PROTOCOLS.build(PROTOCOL)
    return protocol


def _one_class(label: int) -> Callable[[Tables, int | None], Score]:
    whole = _protocol()

    def score(counts: Tables, ignore: int | None) -> Score:
        found = whole(counts, ignore)
        return Score(found.iou, found.iou[..., label])

    return score


@dataclass(frozen=True)
class Verdict:
    """What a step brings to the chain around it.

    Args:
        step: its spec.
        gain: of the chain over the one without the step.
        falls: classes whose IoU surely falls by it.
    """

    step: str
    gain: Gain
    falls: tuple[str, ...]

    @property
    def kept(self) -> bool:
        """Tell whether the gain is real and costs no class anything that is."""
        return self.gain.real and not self.falls

    def document(self) -> dict[str, Any]:
        """Return it as JSON values."""
        said = {"step": self.step, "kept": self.kept, "classes_that_fall": list(self.falls)}
        return {**said, **self.gain.document()}


def best_left(level: Level, judge: Judge, chains: Sequence[Chain]) -> tuple[Chain, list[Verdict]]:
    """Eliminate from several chains and return what scores highest, with its verdicts.

    Args:
        level: the search.
        judge: of its images.
        chains: in the order of preference.
    """
    left = [eliminate(level, judge, chain) for chain in chains]
    scores = [judge.score(level.counts(chain, level.searched)) for chain, _ in left]
    return left[max(range(len(left)), key=lambda k: (scores[k], -k))]


def eliminate(level: Level, judge: Judge, chain: Chain) -> tuple[Chain, list[Verdict]]:
    """Drop steps until each one left is shown to help, by the images that are searched.

    Args:
        level: the search.
        judge: of its images.
        chain: what to begin with.

    Returns:
        The chain that is left, and a verdict a step: those left in order, then those dropped.
    """
    dropped: list[Verdict] = []
    while True:
        verdicts = [_verdict(level, judge, chain, k) for k in range(len(chain.specs))]
        failing = [k for k, verdict in enumerate(verdicts) if not verdict.kept]
        if not failing:
            return chain, verdicts + dropped
        worst = min(failing, key=lambda k: verdicts[k].gain.difference)
        dropped.append(verdicts[worst])
        chain = without(chain, worst)


def without(chain: Chain, place: int) -> Chain:
    """Return the chain without the step at a place."""
    specs, steps = list(chain.specs), list(chain.steps)
    del specs[place], steps[place]
    return replace(chain, specs=tuple(specs), steps=tuple(steps))


def _verdict(level: Level, judge: Judge, chain: Chain, place: int) -> Verdict:
    with_it = level.counts(chain, level.searched)
    rest = level.counts(without(chain, place), level.searched)
    gain = judge.gain(with_it, rest)
    falls = judge.falls(with_it, rest) if gain.real else []
    return Verdict(str(chain.specs[place]), gain, tuple(falls))
