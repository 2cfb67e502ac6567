"""The space of chains: which steps, what their options may be, in any order that fits.

The space of chains from YAML, and the one that is built in.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from optuna.distributions import BaseDistribution, CategoricalDistribution
from optuna.trial import Trial
from pydantic import ValidationError

from ensemble.pipeline.search.space import Range
from ensemble.pipeline.search.study import draw
from evaluation.core.errors import BadSpec
from evaluation.core.safe_yaml import read_yaml
from evaluation.core.specs import Spec
from postproc.chain import Chain, StepContext
from postproc.step import LearnedStep, Step

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
    around: StepContext

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


def _kind(step: Step | LearnedStep) -> tuple[str, str]:
    return step.takes, step.gives


def _of(kind: tuple[str, str], built: list[Any], kinds: list[tuple[str, str]]) -> list[Any]:
    found = [pair for pair, own in zip(built, kinds, strict=True) if own == kind]
    return found[:1] if kind == ("maps", "labels") else found


def _short(value: Any) -> Any:
    """Round what was drawn from a range, so that chains can be read and typed."""
    return float(f"{value:.{DIGITS}g}") if isinstance(value, float) else value


FORM = "expected a list of choices or {low: , high: , log: , step: }"
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


def default_space(around: StepContext) -> ChainSpace:
    """Return the space that is built in, without what makes no sense here."""
    chosen = {
        step: options
        for step, options in DEFAULT.items()
        if step != "suppress_background" or around.ignore is not None
    }
    return _space(chosen, around)


def read_space(path: Path, around: StepContext) -> ChainSpace:
    """Read and check a space file: a mapping from steps to mappings of options.

    Args:
        path: of the file. Behind an option stands a list of choices or {low, high, log, step}; an
            option that is not named keeps its default.
        around: what steps are built in.

    Raises:
        BadSpec: no such file, an unknown step or option, or a value that its option refuses.
    """
    document = read_yaml(path, f"lines such as {EXAMPLE}")
    if not isinstance(document, dict) or not document:
        raise BadSpec(f"{path} names no step; expected lines such as {EXAMPLE}")
    try:
        return _space(document, around)
    except BadSpec as error:
        raise BadSpec(f"{path}: {error}") from None


def _space(document: dict[Any, Any], around: StepContext) -> ChainSpace:
    steps = {}
    for name, options in document.items():
        if not isinstance(options or {}, dict):
            raise BadSpec(f"{name} got {options!r}; expected options such as {EXAMPLE}")
        given = (options or {}).items()
        steps[str(name)] = {str(o): _values(f"{name}.{o}", v) for o, v in given}
        _check(str(name), steps[str(name)], around)
    return ChainSpace(steps, around)


def _values(path: str, given: Any) -> Values:
    if isinstance(given, list) and given:
        odd = [choice for choice in given if not isinstance(choice, str | int | float)]
        if odd:
            raise BadSpec(f"{path}: choice {odd[0]!r}; expected a number or a word")
        return given
    if not isinstance(given, dict):
        raise BadSpec(f"{path} got {given!r}; {FORM}")
    try:
        values = Range(**{str(key): value for key, value in given.items()})
        values.distribution()
    except ValidationError as error:
        first = error.errors()[0]
        raise BadSpec(f"{path}: {first['loc'][0]!r}: {first['msg']}; {FORM}") from None
    except ValueError as error:
        raise BadSpec(f"{path}: {error}; {FORM}") from None
    return values


def _check(step: str, options: dict[str, Values], around: StepContext) -> None:
    """Build the step with each choice and both ends of each range, the others at their first."""
    first = {option: _ends(values)[0] for option, values in options.items()}
    around.build(Spec(step, options=first))
    for option, values in options.items():
        for value in _ends(values):
            around.build(Spec(step, options={**first, option: value}))


def _ends(values: Values) -> list[Any]:
    return values if isinstance(values, list) else [values.low, values.high]
