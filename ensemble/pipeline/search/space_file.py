"""Read the space of a search from YAML, and say what is wrong with it before any training."""

import math
import re
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from ensemble.pipeline.search.paths import NAME
from ensemble.pipeline.search.space import Range, Space, label
from evaluation.ground.errors import BadSpec
from evaluation.ground.yaml_files import read_yaml
from members.recipe import read_recipe

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
