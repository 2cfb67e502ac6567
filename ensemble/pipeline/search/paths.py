"""Options of a recipe by path: `batch`, `architecture.width`, `loss.focal.gamma`."""

from collections.abc import Mapping
from typing import Any

from evaluation.ground.errors import BadSpec
from evaluation.ground.specs import Spec, parse_spec, parse_sum
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
