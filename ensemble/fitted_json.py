"""A fitted fusion on disk: numbers and words in JSON, arrays in .npz, no pickles."""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np

from ensemble.fusion import Fusion
from ensemble.strategies import FUSIONS
from evaluation.core.errors import BadRun, EnsError
from evaluation.core.files import atomic_folder, open_array, read_json, write_json
from evaluation.core.provenance import verify_outputs

STATE, ARRAYS = "fitted.json", "fitted.npz"

FORMER_FIELDS = {"beside": "extra_weights", "keeper": "owner_member"}
"""Names of fields in files of earlier versions, and their names now."""


@dataclass(frozen=True)
class Fitted:
    """A fusion with its origin.

    Args:
        fusion: what the strategy returned, fitted.
    """

    strategy: str
    fusion: Fusion
    context: Mapping[str, Any]


def save_fitted(folder: Path, strategy: str, fusion: Fusion, context: Mapping[str, Any]) -> None:
    """Write a fitted fusion; the folder is replaced whole or not at all.

    Args:
        folder: where; its former content is removed.
    """
    arrays: dict[str, np.ndarray] = {}
    fields = _to_json(fusion, "", arrays)
    document = {"strategy": strategy, "context": dict(context), **fields}
    with atomic_folder(folder) as partial:
        np.savez(partial / ARRAYS, allow_pickle=False, **arrays)
        write_json(partial / STATE, document)


def load_fitted(folder: Path) -> Fitted:
    """Read what `save_fitted` wrote; lists come back as tuples.

    Raises:
        BadRun: nothing there, damaged, or written by a version whose fusions differ.
    """
    if not (folder / STATE).is_file():
        raise BadRun(f"{folder} contains no fitted fusion; fuse with a strategy first")
    verify_outputs(folder)
    try:
        document = read_json(folder / STATE)
        fusion = _from_json(document, "", folder / ARRAYS)
        return Fitted(document["strategy"], fusion, _to_tuples(document["context"]))
    except (EnsError, OSError, LookupError, TypeError, ValueError, AttributeError) as error:
        reason = " ".join(str(error).split())
        raise BadRun(f"{folder} cannot be read ({reason}); remove it and fuse again") from None


def _to_json(fusion: Fusion, prefix: str, arrays: dict[str, np.ndarray]) -> dict[str, Any]:
    """Return a fusion as JSON values; its arrays go to `arrays`, by the path of their field."""
    of_fusion: list[str] = []
    fields: dict[str, Any] = {}
    parts: dict[str, Any] = {}
    for field in dataclasses.fields(fusion):  # type: ignore[arg-type]
        name, value = field.name, getattr(fusion, field.name)
        if isinstance(value, np.ndarray):
            of_fusion.append(name)
            arrays[prefix + name] = value
        elif dataclasses.is_dataclass(value):
            parts[name] = _to_json(cast("Fusion", value), f"{prefix}{name}.", arrays)
        elif isinstance(value, tuple) and any(map(dataclasses.is_dataclass, value)):
            parts[name] = [
                _to_json(part, f"{prefix}{name}.{index}.", arrays)
                for index, part in enumerate(value)
            ]
        else:
            fields[name] = value
    kind = type(fusion).__name__
    return {"fusion": kind, "arrays": sorted(of_fusion), "fields": fields, "parts": parts}


def _from_json(document: Mapping[str, Any], prefix: str, archive: Path) -> Fusion:
    """Return the fusion that `_to_json` was given."""
    kind = FUSIONS.factory(document["fusion"])
    arrays = {
        FORMER_FIELDS.get(name, name): np.array(open_array(archive, prefix + name))
        for name in document["arrays"]
    }
    values = {name: _to_tuples(value) for name, value in document["fields"].items()}
    for name, part in document["parts"].items():
        if isinstance(part, list):
            values[name] = tuple(
                _from_json(one, f"{prefix}{name}.{index}.", archive)
                for index, one in enumerate(part)
            )
        else:
            values[name] = _from_json(part, f"{prefix}{name}.", archive)
    fusion: Fusion = kind(**arrays, **values)
    return fusion


def _to_tuples(value: Any) -> Any:
    """Turn lists back into tuples, at any depth."""
    if isinstance(value, list):
        return tuple(_to_tuples(item) for item in value)
    if isinstance(value, dict):
        return {name: _to_tuples(item) for name, item in value.items()}
    return value
