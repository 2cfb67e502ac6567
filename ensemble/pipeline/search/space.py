"""The space of a search: a recipe, and what some of its options may be; read from YAML."""

import json
import math
import re
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Annotated, Any

import yaml
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from ensemble.pipeline.search.paths import NAME, filled
from evaluation.ground.errors import BadSpec
from members.recipe import Recipe, read_recipe

KEYS = {"recipe", "space"}
EXAMPLE = "architecture.width: [8, 16] or optimizer.lr: {low: 0.0003, high: 0.01, log: true}"

# YAML 1.1 reads 1e-3 as a word, for want of a point.
EXPONENT = re.compile(r"[+-]?\d+(\.\d*)?[eE][+-]?\d+")

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
        if self.step is not None and self.step <= 0:
            raise ValueError(f"step {self.step} is not above 0")
        if all(isinstance(value, int) for value in (self.low, self.high, self.step or 1)):
            step = 1 if self.step is None else int(self.step)
            return IntDistribution(int(self.low), int(self.high), log=self.log, step=step)
        return FloatDistribution(self.low, self.high, log=self.log, step=self.step)


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
        """Return what Optuna draws from; choices stand for themselves by their place."""
        return {
            path: CategoricalDistribution([_label(choice) for choice in values])
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
            return drawn
        return next(choice for choice in values if _label(choice) == drawn)


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
    try:
        document = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise BadSpec(f"{path} is missing; expected a space file: recipe, space") from None
    except (OSError, ValueError, yaml.YAMLError, RecursionError) as error:
        reason = " ".join(str(error).split())
        raise BadSpec(f"{path} cannot be read as YAML ({reason})") from None
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
    labels = [_label(choice) for choice in choices]
    for place, label in enumerate(labels):
        if isinstance(label, float) and not math.isfinite(label):
            raise BadSpec(f"{path}: choice {label} is no number")
        if label in labels[:place]:
            raise BadSpec(f"{path}: choice {choices[place]!r} stands twice")
    return choices


def _label(choice: Any) -> str | int | float | bool | None:
    """Return what stands for a choice in the study, which keeps plain values alone."""
    if choice is None or isinstance(choice, str | int | float | bool):
        return choice
    return json.dumps(choice)


def _number(choice: Any) -> Any:
    return float(choice) if isinstance(choice, str) and EXPONENT.fullmatch(choice) else choice
