"""The space of a recipe search: a recipe, and the values of some of its options, from YAML.

Options are named by path: `batch`, `architecture.width`, `loss.focal.gamma`.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

from ensemble.pipeline.search.study import (
    Distributions,
    Values,
    choice_label,
    distribution_of,
    end_values,
    read_values,
    values_to_dict,
)
from evaluation.core.errors import BadSpec
from evaluation.core.safe_yaml import read_yaml
from evaluation.core.specs import Spec, parse_spec, parse_sum
from members.recipe import SPECIALISTS, Recipe, read_recipe

SPECS = ("architecture", "optimizer", "schedule", "trainer")
"""Recipe keys that hold one spec."""

SUM, SEQUENCE, WEIGHT = "loss", "augment", "weight"
"""The keys that hold several specs, and the name of the factor of a term of the sum."""

NAME = "best"
"""The searched member; with the same name and seed `train-members` gets the same weights."""

KEYS = ("recipe", "space")
EXAMPLE = "architecture.width: [8, 16] or optimizer.lr: {low: 0.0003, high: 0.01, log: true}"
DECIMALS = 10


@dataclass(frozen=True)
class Space:
    """A recipe, and the values by path of those of its options that are searched."""

    recipe: Recipe
    options: dict[str, Values]

    def distributions(self) -> Distributions:
        """Return Optuna's distribution of each option."""
        return {path: distribution_of(values) for path, values in self.options.items()}

    def decode(self, suggested: Mapping[str, Any]) -> dict[str, Any]:
        """Return the value of each option from what Optuna suggested."""
        return {path: self._decode(path, value) for path, value in suggested.items()}

    def to_dict(self) -> dict[str, Any]:
        """Return the options as JSON values."""
        return values_to_dict(self.options)

    def check(self) -> list[Recipe]:
        """Check that every choice and end can be trained; return a recipe for each.

        Raises:
            BadSpec: an unknown path, or a value that its option refuses.
        """
        recipes = []
        for path in self.options:
            key = path.partition(".")[0]
            # An option inside a key that is searched too must fit every choice of it.
            outer = [key] if key != path and key in self.options else []
            for values in product(*(end_values(self.options[name]) for name in [*outer, path])):
                try:
                    options = dict(zip([*outer, path], values, strict=True))
                    recipes.append(apply_options(self.recipe, options))
                except BadSpec as error:
                    raise BadSpec(f"{path}: {error}") from None
        return recipes

    def _decode(self, path: str, suggested: Any) -> Any:
        values = self.options[path]
        if not isinstance(values, list):
            # Steps are added up in binary: 0.1 three times is a little more than 0.3.
            return suggested if values.step is None else round(suggested, DECIMALS)
        return next(choice for choice in values if choice_label(choice) == suggested)


def read_space(path: Path, defaults: dict[str, Any]) -> Space:
    """Read and check a space file.

    Args:
        path: of the file: `recipe`, a mapping of recipe keys, and `space`, from paths to lists of
            choices or {low, high, log, step}.
        defaults: recipe keys that the file leaves out.

    Raises:
        BadSpec: no such file, an unknown path, or a value that its option refuses.
    """
    document = read_yaml(path, "a space file: recipe, space")
    if not isinstance(document, dict):
        kind = type(document).__name__
        raise BadSpec(f"{path} holds {kind}; expected the keys recipe and space")
    unknown = [key for key in document if key not in KEYS]
    if unknown:
        raise BadSpec(f"{path}: unknown key {unknown[0]!r}; known: {', '.join(KEYS)}")
    options = document.get("space")
    if not isinstance(options, dict) or not options:
        raise BadSpec(f"{path}: `space` names no option; expected lines such as {EXAMPLE}")
    try:
        recipe = read_recipe(NAME, document.get("recipe") or {}, defaults)
        recipe.check()
        space = Space(recipe, {str(key): read_values(str(key), v) for key, v in options.items()})
        space.check()
    except BadSpec as error:
        raise BadSpec(f"{path}: {error}") from None
    return space


def apply_options(base: Recipe, options: Mapping[str, Any]) -> Recipe:
    """Return a recipe with options set by path; whole keys are set before options inside them.

    Raises:
        BadSpec: an unknown path, or a value that its option refuses.

    Examples:
        >>> apply_options(Recipe(), {"architecture.width": 3, "architecture": "pan"}).architecture
        'pan(width=3)'
    """
    document = base.model_dump(mode="json")
    for path in sorted(options, key=lambda path: path.count(".")):
        key, _, inside = path.partition(".")
        if key not in Recipe.model_fields:
            known = ", ".join(Recipe.model_fields)
            raise BadSpec(f"a recipe has no key {key!r}; known: {known}, or KEY.OPTION")
        value = options[path]
        document[key] = _set_inside(key, document[key], inside, value) if inside else value
    recipe = read_recipe(NAME, document, {})
    if parse_spec(recipe.architecture).name == SPECIALISTS:
        raise BadSpec(f"{recipe.architecture} is several networks; search the recipe of one")
    recipe.check()
    return recipe


def _set_inside(key: str, text: Any, inside: str, value: Any) -> Any:
    """Set an option inside the spec, the sum or the sequence of specs under a key."""
    if key in SPECS and "." not in inside:
        return str(_with_option(parse_spec(text), inside, value))
    name, _, option = inside.partition(".")
    if key == SUM and option:
        terms = parse_sum(text)
        index = _index_of([spec for _, spec in terms], name, key)
        weight, spec = terms[index]
        is_weight = option == WEIGHT
        terms[index] = (value, spec) if is_weight else (weight, _with_option(spec, option, value))
        return " + ".join(f"{weight!r}*{spec}" for weight, spec in terms)
    if key == SEQUENCE and option:
        specs = [parse_spec(item) for item in text]
        index = _index_of(specs, name, key)
        specs[index] = _with_option(specs[index], option, value)
        return [str(spec) for spec in specs]
    forms = f"KEY.OPTION for {', '.join(SPECS)}; {SUM}.NAME.OPTION, {SEQUENCE}.NAME.OPTION"
    raise BadSpec(f"{key}.{inside} names no option; expected {forms}")


def _with_option(spec: Spec, option: str, value: Any) -> Spec:
    return Spec(spec.name, spec.arguments, {**spec.options, option: value})


def _index_of(specs: list[Spec], name: str, key: str) -> int:
    names = [spec.name for spec in specs]
    if names.count(name) != 1:
        raise BadSpec(f"{key} holds {', '.join(names) or 'nothing'}; expected {name!r} once")
    return names.index(name)
