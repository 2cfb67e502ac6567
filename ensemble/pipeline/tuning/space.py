"""The space of chains: which steps, and the values of their options; from YAML or built in."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from optuna.distributions import BaseDistribution, CategoricalDistribution
from optuna.trial import Trial

from ensemble.pipeline.search.study import (
    Values,
    distribution_of,
    end_values,
    read_values,
    suggest,
    values_to_dict,
)
from evaluation.core.errors import BadSpec
from evaluation.core.safe_yaml import read_yaml
from evaluation.core.specs import Spec
from postproc.chain import Chain, StepContext

NONE = "none"
MAX_STEPS = 4
"""Each further step must be shown to help, and takes time."""

DIGITS = 4
KINDS = [("maps", "maps"), ("maps", "labels"), ("labels", "labels")]
EXAMPLE = "remove_small: {min_area_px: [16, 64]}"

DEFAULT: dict[str, dict[str, Any]] = {
    "suppress_background": {},
    "class_bias": {},
    "crf": {
        "gaussian_sxy": [1.5, 3.0],
        "gaussian_compat": {"low": 0.0, "high": 6.0, "step": 1.0},
        "bilateral_sxy": {"low": 5.0, "high": 60.0, "log": True},
        "bilateral_srgb": {"low": 3.0, "high": 30.0, "log": True},
        "bilateral_compat": {"low": 0.5, "high": 10.0, "log": True},
        "iterations": [2, 5, 10],
    },
    "superpixel_vote": {
        "size_px": [4, 8, 16],
        "compactness": {"low": 5.0, "high": 80.0, "log": True},
    },
    "blur": {"sigma": {"low": 0.5, "high": 6.0, "log": True}},
    "median": {"size": [3, 5]},
    "mode_filter": {"size": [3, 5, 7, 9, 13]},
    "remove_small": {
        "min_area_px": {"low": 8, "high": 512, "log": True},
        "refill": ["neighbour", "majority", "next_best"],
    },
    "keep_largest": {},
    "fill_holes": {"max_area_px": {"low": 8, "high": 512, "log": True}},
    "open": {"size": [3, 5, 7]},
    "close": {"size": [3, 5, 7]},
}


@dataclass(frozen=True)
class ChainSpace:
    """Steps, each at most once in a chain, and the values of their options."""

    steps: dict[str, dict[str, Values]]
    context: StepContext

    @property
    def places(self) -> list[str]:
        """Name the positions of a chain, which are parameters of a trial."""
        return [f"place {k + 1}" for k in range(min(MAX_STEPS, len(self.steps)))]

    def distribution(self, path: str) -> BaseDistribution:
        """Return the distribution of a parameter of a trial: a position, or `step.option`."""
        if path in self.places:
            return CategoricalDistribution([NONE, *self.steps])
        step, _, option = path.partition(".")
        return distribution_of(self.steps[step][option])

    def initial_trials(self) -> list[dict[str, str]]:
        """Return the first trials: the plain argmax, then each step by itself."""
        return [
            dict(zip(self.places, [name] + [NONE] * MAX_STEPS, strict=False))
            for name in [NONE, *self.steps]
        ]

    def suggest(self, trial: Trial) -> Chain:
        """Suggest a chain: steps for the positions, then the options of these steps."""
        taken = suggest(trial, {place: self.distribution(place) for place in self.places})
        names = [name for name in dict.fromkeys(taken.values()) if name != NONE]
        return self.chain([self._suggest_step(trial, name) for name in names])

    def chain(self, specs: list[Spec]) -> Chain:
        """Order steps: those on maps, one from maps to labels, those on labels.

        Of several from maps to labels the first is taken, since no maps are left for more.
        """
        built = [(spec, self.context.build(spec)) for spec in specs]
        ordered = []
        for kind in KINDS:
            pairs = [pair for pair in built if (pair[1].input, pair[1].output) == kind]
            ordered += pairs[:1] if kind == ("maps", "labels") else pairs
        steps = tuple(step for _, step in ordered)
        return Chain(tuple(spec for spec, _ in ordered), steps, self.context)

    def parse(self, text: str) -> Chain:
        """Parse a chain as it is written."""
        context = self.context
        return context.parse(text)

    def to_dict(self) -> dict[str, Any]:
        """Return it as JSON values."""
        return {step: values_to_dict(options) for step, options in self.steps.items()}

    def _suggest_step(self, trial: Trial, step: str) -> Spec:
        paths = {option: f"{step}.{option}" for option in self.steps[step]}
        values = suggest(trial, {path: self.distribution(path) for path in paths.values()})
        return Spec(step, options={o: _rounded(values[path]) for o, path in paths.items()})


def default_space(context: StepContext) -> ChainSpace:
    """Return the built-in space, without `suppress_background` if no class is ignored."""
    steps = dict(DEFAULT)
    if context.ignore is None:
        del steps["suppress_background"]
    return _build_space(steps, context)


def read_space(path: Path, context: StepContext) -> ChainSpace:
    """Read and check a space file: a mapping from steps to options, each with values.

    Values are a list of choices or {low, high, log, step}; options left out keep their defaults.

    Raises:
        BadSpec: no such file, an unknown step or option, or a value that its option refuses.
    """
    document = read_yaml(path, f"lines such as {EXAMPLE}")
    if not isinstance(document, dict) or not document:
        raise BadSpec(f"{path} names no step; expected lines such as {EXAMPLE}")
    try:
        return _build_space(document, context)
    except BadSpec as error:
        raise BadSpec(f"{path}: {error}") from None


def _build_space(document: dict[Any, Any], context: StepContext) -> ChainSpace:
    steps = {}
    for name, options in document.items():
        if not isinstance(options or {}, dict):
            raise BadSpec(f"{name} got {options!r}; expected options such as {EXAMPLE}")
        given = (options or {}).items()
        steps[str(name)] = {str(o): read_values(f"{name}.{o}", v, plain=True) for o, v in given}
        _check_step(str(name), steps[str(name)], context)
    return ChainSpace(steps, context)


def _check_step(step: str, options: dict[str, Values], context: StepContext) -> None:
    """Build the step with each choice and both ends of each range, the others at their first."""
    first = {option: end_values(values)[0] for option, values in options.items()}
    context.build(Spec(step, options=first))
    for option, values in options.items():
        for value in end_values(values):
            context.build(Spec(step, options={**first, option: value}))


def _rounded(value: Any) -> Any:
    """Round what was sampled from a range, so that chains can be read and typed."""
    return float(f"{value:.{DIGITS}g}") if isinstance(value, float) else value
