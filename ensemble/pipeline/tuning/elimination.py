"""Backward elimination: what cannot be shown to help goes, one step after the other."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from ensemble.pipeline.tuning.judge import Gain, Judge
from ensemble.pipeline.tuning.level import Level
from postproc.chain import Chain


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
        judge: of its pictures.
        chains: in the order of preference.
    """
    left = [eliminate(level, judge, chain) for chain in chains]
    scores = [judge.score(level.counts(chain, level.searched)) for chain, _ in left]
    return left[max(range(len(left)), key=lambda k: (scores[k], -k))]


def eliminate(level: Level, judge: Judge, chain: Chain) -> tuple[Chain, list[Verdict]]:
    """Drop steps until each one left is shown to help, by the pictures that are searched.

    Args:
        level: the search.
        judge: of its pictures.
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
