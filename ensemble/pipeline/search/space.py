"""The space of a search: a recipe, and what some of its options may be.

Read the space of a search from YAML, and say what is wrong with it before any training.

Options of a recipe by path: `batch`, `architecture.width`, `loss.focal.gamma`.
"""

import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from itertools import product
from pathlib import Path
from typing import Annotated, Any

from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from evaluation.core.errors import BadSpec
from evaluation.core.safe_yaml import read_yaml
from evaluation.core.specs import Spec, parse_spec, parse_sum
from members.recipe import SPECIALISTS, Recipe, read_recipe

SPECS = ("architecture", "optimizer", "schedule", "procedure")
"""Recipe keys that hold one spec."""

SUM, SEQUENCE, WEIGHT = "loss", "augment", "weight"
"""The keys that hold several specs, and what the factor of a sum's term is called."""

NAME = "best"
"""What a searched recipe is called; `train-members` finds its weights again by name and seed."""


def filled(base: Recipe, options: Mapping[str, Any]) -> Recipe:
    """Return a recipe with options set by path; whole keys come before options inside them.

    Args:
        base: what it is where no option says otherwise.
        options: from a path to its value.

    Raises:
        BadSpec: a path that leads nowhere, or a value that its option refuses.
    """
    document = base.model_dump(mode="json")
    for path in sorted(options, key=lambda path: path.count(".")):
        key, _, inside = path.partition(".")
        if key not in Recipe.model_fields:
            known = ", ".join(Recipe.model_fields)
            raise BadSpec(f"a recipe has no key {key!r}; known: {known}, or KEY.OPTION")
        value = options[path]
        document[key] = _within(key, document[key], inside, value) if inside else value
    recipe = read_recipe(NAME, document, {})
    if parse_spec(recipe.architecture).name == SPECIALISTS:
        raise BadSpec(f"{recipe.architecture} is several networks; search the recipe of one")
    recipe.check()
    return recipe


def _within(key: str, text: Any, inside: str, value: Any) -> Any:
    """Set an option inside the spec, the sum or the sequence of specs under a key."""
    if key in SPECS and "." not in inside:
        return str(_with(parse_spec(text), inside, value))
    name, _, option = inside.partition(".")
    if key == SUM and option:
        terms = parse_sum(text)
        place = _place([spec for _, spec in terms], name, key)
        weight, spec = terms[place]
        terms[place] = (value, spec) if option == WEIGHT else (weight, _with(spec, option, value))
        return " + ".join(f"{weight!r}*{spec}" for weight, spec in terms)
    if key == SEQUENCE and option:
        specs = [parse_spec(one) for one in text]
        place = _place(specs, name, key)
        specs[place] = _with(specs[place], option, value)
        return [str(spec) for spec in specs]
    forms = "; ".join([f"KEY.OPTION for {', '.join(SPECS)}", f"{SUM}.NAME.OPTION"])
    raise BadSpec(f"{key}.{inside} names no option; expected {forms}, {SEQUENCE}.NAME.OPTION")


def _with(spec: Spec, option: str, value: Any) -> Spec:
    return Spec(spec.name, spec.arguments, {**spec.options, option: value})


def _place(specs: list[Spec], name: str, key: str) -> int:
    names = [spec.name for spec in specs]
    if names.count(name) != 1:
        raise BadSpec(f"{key} holds {', '.join(names) or 'nothing'}; expected {name!r} once")
    return names.index(name)


DECIMALS = 10

Number = Annotated[float, Field(allow_inf_nan=False)]


class Range(BaseModel):
    """What an option may be, from low to high, both included; whole numbers where all are.

    Args:
        low: the lowest.
        high: the highest.
        log: whether orders of magnitude are alike, not differences.
        step: from one value to the next.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    low: int | Number
    high: int | Number
    log: bool = False
    step: int | Number | None = None

    def distribution(self) -> BaseDistribution:
        """Return it as Optuna has it.

        Raises:
            ValueError: no such range.
        """
        if self.low >= self.high:
            raise ValueError(f"low {self.low} is not below high {self.high}")
        if self.log and (self.low <= 0 or self.step is not None):
            raise ValueError("log goes with a low above 0, and without a step")
        if self.step is not None and not self._leads():
            raise ValueError(
                f"steps of {self.step} do not lead from {self.low} to {self.high} exactly"
            )
        if all(isinstance(value, int) for value in (self.low, self.high, self.step or 1)):
            step = 1 if self.step is None else int(self.step)
            return IntDistribution(int(self.low), int(self.high), log=self.log, step=step)
        return FloatDistribution(self.low, self.high, log=self.log, step=self.step)

    def _leads(self) -> bool:
        """Tell whether steps end at high; in decimals, in which 0.4 is four times 0.1."""
        low, high, step = (Decimal(str(value)) for value in (self.low, self.high, self.step))
        return step > 0 and (high - low) % step == 0


@dataclass(frozen=True)
class Space:
    """A recipe and what its options may be.

    Args:
        recipe: what is not searched.
        options: from a path to a list of choices or a range.
    """

    recipe: Recipe
    options: dict[str, list[Any] | Range]

    def distributions(self) -> dict[str, BaseDistribution]:
        """Return what Optuna draws from; a choice that is a list goes as its JSON text."""
        return {
            path: CategoricalDistribution([label(choice) for choice in values])
            if isinstance(values, list)
            else values.distribution()
            for path, values in self.options.items()
        }

    def decoded(self, drawn: dict[str, Any]) -> dict[str, Any]:
        """Return the value of each option from what Optuna drew."""
        return {path: self._value(path, value) for path, value in drawn.items()}

    def document(self) -> dict[str, Any]:
        """Return the options as JSON values."""
        return {
            path: values if isinstance(values, list) else values.model_dump()
            for path, values in self.options.items()
        }

    def check(self) -> list[Recipe]:
        """Refuse what no trial could train; return a recipe for each end and choice.

        Raises:
            BadSpec: a path that leads nowhere, or a value that its option refuses.
        """
        recipes = []
        for path in self.options:
            key = path.partition(".")[0]
            # An option inside a key that is searched too must fit every choice of it.
            around = [key] if key != path and key in self.options else []
            for values in product(*(self._ends(name) for name in [*around, path])):
                try:
                    options = dict(zip([*around, path], values, strict=True))
                    recipes.append(filled(self.recipe, options))
                except BadSpec as error:
                    raise BadSpec(f"{path}: {error}") from None
        return recipes

    def _ends(self, path: str) -> list[Any]:
        values = self.options[path]
        return values if isinstance(values, list) else [values.low, values.high]

    def _value(self, path: str, drawn: Any) -> Any:
        values = self.options[path]
        if not isinstance(values, list):
            # Steps are added up in binary: 0.1 three times is a little more than 0.3.
            return drawn if values.step is None else round(drawn, DECIMALS)
        return next(choice for choice in values if label(choice) == drawn)


def label(choice: Any) -> str | int | float | bool | None:
    """Return what stands for a choice in the study, which keeps plain values alone."""
    if choice is None or isinstance(choice, str | int | float | bool):
        return choice
    return json.dumps(choice)


KEYS = {"recipe", "space"}
EXAMPLE = "architecture.width: [8, 16] or optimizer.lr: {low: 0.0003, high: 0.01, log: true}"

# YAML 1.1 reads 1e-3 as a word, for want of a point.
EXPONENT = re.compile(r"[+-]?\d+(\.\d*)?[eE][+-]?\d+")


def read_space(path: Path, defaults: dict[str, Any]) -> Space:
    """Read and check a space file.

    Args:
        path: of the file: `recipe`, a mapping of recipe keys, and `space`, from paths to lists of
            choices or to {low, high, log, step}.
        defaults: recipe keys where the file says nothing.

    Raises:
        BadSpec: no such file, an unknown path, or a value that its option refuses.
    """
    document = _document(path)
    options = document.get("space")
    if not isinstance(options, dict) or not options:
        raise BadSpec(f"{path}: `space` names no option; expected lines such as {EXAMPLE}")
    try:
        recipe = read_recipe(NAME, document.get("recipe") or {}, defaults)
        recipe.check()
        space = Space(recipe, {str(key): _values(str(key), v) for key, v in options.items()})
        space.check()
    except BadSpec as error:
        raise BadSpec(f"{path}: {error}") from None
    return space


def _document(path: Path) -> dict[str, Any]:
    document = read_yaml(path, "a space file: recipe, space")
    if not isinstance(document, dict):
        met = type(document).__name__
        raise BadSpec(f"{path} holds {met}; expected the keys recipe and space")
    unknown = [key for key in document if key not in KEYS]
    if unknown:
        raise BadSpec(f"{path}: unknown key {unknown[0]!r}; known: recipe, space")
    return document


def _values(path: str, given: Any) -> list[Any] | Range:
    """Check a list of choices or a range."""
    form = "expected a list of choices or {low: , high: , log: , step: }"
    if isinstance(given, list) and given:
        return _choices(path, [_number(choice) for choice in given])
    if not isinstance(given, dict):
        raise BadSpec(f"{path} got {given!r}; {form}")
    try:
        values = Range(**{str(key): value for key, value in given.items()})
        values.distribution()
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"][:1])
        reason = first["msg"].removeprefix("Input should be ")
        raise BadSpec(f"{path}: {key!r}: {reason[:1].lower()}{reason[1:]}; {form}") from None
    except ValueError as error:
        raise BadSpec(f"{path}: {error}; {form}") from None
    return values


def _choices(path: str, choices: list[Any]) -> list[Any]:
    labels = [label(choice) for choice in choices]
    for place, shown in enumerate(labels):
        if isinstance(shown, float) and not math.isfinite(shown):
            raise BadSpec(f"{path}: choice {shown} is no number")
        if shown in labels[:place]:
            raise BadSpec(f"{path}: choice {choices[place]!r} stands twice")
    return choices


def _number(choice: Any) -> Any:
    return float(choice) if isinstance(choice, str) and EXPONENT.fullmatch(choice) else choice
