"""Options of every table: numbers have two bounds, and NaN and infinity are refused."""

import importlib
import inspect
from pathlib import Path
from types import UnionType
from typing import Annotated, Literal, Union, get_args, get_origin, get_type_hints

import pytest

from evaluation.core.errors import BadSpec
from evaluation.core.specs import Table
from members.recipe import Recipe, read_recipe

ROOT = Path(__file__).parents[1]
PACKAGES = ("evaluation", "members", "postproc", "ensemble")
NUMBERS = ("nan", "1e999", "-1e999", "1e40", "-1")
CLASS_NAMES = {"of", "but"}  # a class may be called nan
CHECKED_INSIDE = {"weights"}  # `weighted_mean` divides by the largest, in float64


def tables():
    """All tables of the four packages; a new one is found by standing in a module."""
    found = {}
    for package in PACKAGES:
        for path in (ROOT / package).rglob("*.py"):
            if "Table(" in path.read_text(encoding="utf-8"):
                name = ".".join(path.relative_to(ROOT).with_suffix("").parts)
                module = importlib.import_module(name.removesuffix(".__init__"))
                found |= {id(v): v for v in vars(module).values() if isinstance(v, Table)}
    return list(found.values())


def numbers(hint, metadata=()):
    """Yield the annotations of the numbers in a type, with the bounds that hold for each."""
    origin, arguments = get_origin(hint), get_args(hint)
    if hint in (int, float):
        yield metadata
    elif origin is Annotated:
        yield from numbers(arguments[0], hint.__metadata__)
    elif origin is not Literal:
        for part in arguments:
            yield from numbers(part, () if origin in (Union, UnionType) else metadata)


def has_bounds(metadata):
    bounds = [part for field in metadata for part in getattr(field, "metadata", ())]
    return all(
        any(hasattr(bound, name) for bound in bounds for name in names)
        for names in (("ge", "gt"), ("le", "lt"))
    )


OPTIONS = [
    pytest.param(table, entry, option, hints[option], id=f"{entry}-{option}")
    for table in tables()
    for entry in table
    for hints in [get_type_hints(table.factory(entry), include_extras=True)]
    for option, parameter in inspect.signature(table.factory(entry)).parameters.items()
    if parameter.kind is parameter.KEYWORD_ONLY and list(numbers(hints[option]))
]


@pytest.mark.parametrize(("table", "entry", "option", "hint"), OPTIONS)
def test_every_number_has_two_bounds_and_is_finite(table, entry, option, hint):
    if option not in CHECKED_INSIDE:
        assert all(has_bounds(metadata) for metadata in numbers(hint))
    for value in NUMBERS if option not in CLASS_NAMES else NUMBERS[1:]:
        with pytest.raises(BadSpec):
            table.check(f"{entry}({option}={value})", "classes", "ignore", "kinds", "parameters")


RECIPE = {
    name: metadata.metadata
    for name, metadata in Recipe.model_fields.items()
    if metadata.annotation in (int, float)
}


@pytest.mark.parametrize("key", RECIPE)
def test_numbers_of_a_recipe_have_bounds_too(key):
    for value in (float("nan"), float("inf"), 1e39, -1):
        with pytest.raises(BadSpec, match=key):
            read_recipe("a", {key: value}, {})
