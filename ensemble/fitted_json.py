"""A fitted fusion on disk: numbers and words in JSON, arrays in .npz, nothing pickled."""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np

from ensemble.fusion import Fusion
from ensemble.strategies import FUSIONS
from evaluation.core.errors import BadRun, EnsError
from evaluation.core.files import (
    atomic_folder,
    open_array,
    read_json,
    write_json,
)
from evaluation.core.provenance import verify_outputs

STATE, ARRAYS = "fitted.json", "fitted.npz"


@dataclass(frozen=True)
class Fitted:
    """A fusion with what made it.

    Args:
        strategy: the spec.
        fusion: what the strategy gave, fitted.
        context: the surroundings that it was built in: JSON values.
    """

    strategy: str
    fusion: Fusion
    context: Mapping[str, Any]


def save_fitted(folder: Path, strategy: str, fusion: Fusion, context: Mapping[str, Any]) -> None:
    """Write a fitted fusion; the folder is replaced whole or not at all.

    Args:
        folder: where; what is in it goes.
        strategy: the spec.
        fusion: see `ensemble.fusion.Fusion`.
        context: the surroundings that it was built in: JSON values.
    """
    arrays: dict[str, np.ndarray] = {}
    parts = _taken_apart(fusion, "", arrays)
    document = {"strategy": strategy, "context": dict(context), **parts}
    with atomic_folder(folder) as partial:
        np.savez(partial / ARRAYS, allow_pickle=False, **arrays)
        write_json(partial / STATE, document)


def load_fitted(folder: Path) -> Fitted:
    """Read what `save_fitted` wrote; lists come back as tuples.

    Raises:
        BadRun: nothing there, damaged, or written by a version whose fusions differ.
    """
    if not (folder / STATE).is_file():
        raise BadRun(f"{folder} holds no fitted fusion; fuse with a strategy first")
    verify_outputs(folder)
    try:
        document = read_json(folder / STATE)
        fusion = _put_together(document, "", folder / ARRAYS)
        return Fitted(document["strategy"], fusion, _frozen(document["context"]))
    except (EnsError, OSError, LookupError, TypeError, ValueError, AttributeError) as error:
        reason = " ".join(str(error).split())
        raise BadRun(f"{folder} cannot be read ({reason}); remove it and fuse again") from None


def _taken_apart(fusion: Fusion, within: str, arrays: dict[str, np.ndarray]) -> dict[str, Any]:
    """Return a fusion as JSON values; arrays go to `arrays`, by the path of their field."""
    own: list[str] = []
    fields: dict[str, Any] = {}
    parts: dict[str, Any] = {}
    for field in dataclasses.fields(fusion):  # type: ignore[arg-type]
        name, value = field.name, getattr(fusion, field.name)
        if isinstance(value, np.ndarray):
            own.append(name)
            arrays[within + name] = value
        elif dataclasses.is_dataclass(value):
            parts[name] = _taken_apart(cast("Fusion", value), f"{within}{name}.", arrays)
        elif isinstance(value, tuple) and any(map(dataclasses.is_dataclass, value)):
            parts[name] = [
                _taken_apart(part, f"{within}{name}.{place}.", arrays)
                for place, part in enumerate(value)
            ]
        else:
            fields[name] = value
    kind = type(fusion).__name__
    return {"fusion": kind, "arrays": sorted(own), "fields": fields, "parts": parts}


def _put_together(document: Mapping[str, Any], within: str, archive: Path) -> Fusion:
    """Return the fusion that `_taken_apart` was given."""
    kind = FUSIONS.factory(document["fusion"])
    arrays = {name: np.array(open_array(archive, within + name)) for name in document["arrays"]}
    values = {name: _frozen(value) for name, value in document["fields"].items()}
    for name, part in document["parts"].items():
        if isinstance(part, list):
            values[name] = tuple(
                _put_together(one, f"{within}{name}.{place}.", archive)
                for place, one in enumerate(part)
            )
        else:
            values[name] = _put_together(part, f"{within}{name}.", archive)
    fusion: Fusion = kind(**arrays, **values)
    return fusion


def _frozen(value: Any) -> Any:
    """Give lists back as the tuples they were, at any depth."""
    if isinstance(value, list):
        return tuple(_frozen(item) for item in value)
    if isinstance(value, dict):
        return {name: _frozen(item) for name, item in value.items()}
    return value
