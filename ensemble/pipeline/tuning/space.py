"""The space of chains: which steps, what their options may be, in any order that fits."""

from dataclasses import dataclass
from typing import Any

from optuna.distributions import BaseDistribution, CategoricalDistribution
from optuna.trial import Trial

from ensemble.pipeline.search.space import Range
from ensemble.pipeline.search.study import draw
from evaluation.ground.specs import Spec
from postproc.chain import Chain, Surroundings
from postproc.step import Learned, Step

NONE = "none"
MOST_STEPS = 4
"""Steps of a chain at most: each is one more to be proved, and one more to wait for."""

DIGITS = 4
KINDS = [("maps", "maps"), ("maps", "labels"), ("labels", "labels")]

Values = list[Any] | Range


@dataclass(frozen=True)
class ChainSpace:
    """Steps, each at most once in a chain, and what their options may be.

    Args:
        steps: by name, from option to a list of choices or a range.
        around: what steps are built in.
    """

    steps: dict[str, dict[str, Values]]
    around: Surroundings

    @property
    def places(self) -> list[str]:
        """Name the places of a chain."""
        return [f"place {k + 1}" for k in range(min(MOST_STEPS, len(self.steps)))]

    def distribution(self, path: str) -> BaseDistribution:
        """Return what a parameter of a trial is drawn from: a place, or `step.option`."""
        if path in self.places:
            return CategoricalDistribution([NONE, *self.steps])
        step, _, option = path.partition(".")
        values = self.steps[step][option]
        return (
            CategoricalDistribution(values) if isinstance(values, list) else values.distribution()
        )

    def starts(self) -> list[dict[str, str]]:
        """Return what the first trials are: the plain argmax, then each step by itself."""
        return [
            dict(zip(self.places, [name] + [NONE] * MOST_STEPS, strict=False))
            for name in [NONE, *self.steps]
        ]

    def draw(self, trial: Trial) -> Chain:
        """Draw a chain: steps for the places, then the options of those that are taken."""
        taken = draw(trial, {place: self.distribution(place) for place in self.places})
        names = [name for name in dict.fromkeys(taken.values()) if name != NONE]
        return self.chain([self._drawn(trial, name) for name in names])

    def chain(self, specs: list[Spec]) -> Chain:
        """Put steps in order: those on maps first, one that makes labels of them, the others.

        Of several that make labels of maps the first is taken, since no maps are left for more.
        """
        built = [(spec, self.around.build(spec)) for spec in specs]
        kinds = [_kind(step) for _, step in built]
        ordered = [pair for kind in KINDS for pair in _of(kind, built, kinds)]
        steps, chosen = [step for _, step in ordered], [spec for spec, _ in ordered]
        return Chain(tuple(chosen), tuple(steps), self.around)

    def document(self) -> dict[str, Any]:
        """Return it as JSON values."""
        return {
            step: {
                name: values if isinstance(values, list) else values.model_dump()
                for name, values in options.items()
            }
            for step, options in self.steps.items()
        }

    def _drawn(self, trial: Trial, step: str) -> Spec:
        paths = {option: f"{step}.{option}" for option in self.steps[step]}
        drawn = draw(trial, {path: self.distribution(path) for path in paths.values()})
        return Spec(step, options={o: _short(drawn[path]) for o, path in paths.items()})


def _kind(step: Step | Learned) -> tuple[str, str]:
    return step.takes, step.gives


def _of(kind: tuple[str, str], built: list[Any], kinds: list[tuple[str, str]]) -> list[Any]:
    found = [pair for pair, own in zip(built, kinds, strict=True) if own == kind]
    return found[:1] if kind == ("maps", "labels") else found


def _short(value: Any) -> Any:
    """Round what was drawn from a range, so that chains can be read and typed."""
    return float(f"{value:.{DIGITS}g}") if isinstance(value, float) else value
