"""A fitted fusion on disk: numbers and words in JSON, arrays in .npz, nothing pickled."""

import dataclasses
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ensemble.fusion import Fusion
from ensemble.strategies import FUSIONS
from evaluation.ground.errors import BadRun, EnsError
from evaluation.ground.files import read_json, whole_folder, write_json

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
        fusion: a frozen dataclass of arrays, numbers, strings and tuples of these two.
        context: the surroundings that it was built in: JSON values.
    """
    fields = {f.name: getattr(fusion, f.name) for f in dataclasses.fields(fusion)}  # type: ignore[arg-type]
    arrays = {name: value for name, value in fields.items() if isinstance(value, np.ndarray)}
    document = {
        "strategy": strategy,
        "context": dict(context),
        "fusion": type(fusion).__name__,
        "arrays": sorted(arrays),
        "fields": {name: value for name, value in fields.items() if name not in arrays},
    }
    with whole_folder(folder) as partial:
        np.savez(partial / ARRAYS, allow_pickle=False, **arrays)
        write_json(partial / STATE, document)


def load_fitted(folder: Path) -> Fitted:
    """Read what `save_fitted` wrote; lists come back as tuples.

    Raises:
        BadRun: nothing there, damaged, or written by a version whose fusions differ.
    """
    if not (folder / STATE).is_file():
        raise BadRun(f"{folder} holds no fitted fusion; fuse with a strategy first")
    try:
        document = read_json(folder / STATE)
        kind = FUSIONS.factory(document["fusion"])
        with (folder / ARRAYS).open("rb") as file, np.load(file, allow_pickle=False) as archive:
            arrays = {name: archive[name] for name in document["arrays"]}
        numbers = {name: _frozen(value) for name, value in document["fields"].items()}
        fusion: Fusion = kind(**arrays, **numbers)
        return Fitted(document["strategy"], fusion, _frozen(document["context"]))
    except (
        EnsError,
        OSError,
        KeyError,
        TypeError,
        ValueError,
        EOFError,
        zipfile.BadZipFile,
    ) as error:
        reason = str(error).splitlines()[0]
        raise BadRun(f"{folder} cannot be read ({reason}); remove it and fuse again") from None


def _frozen(value: Any) -> Any:
    """Give lists back as the tuples they were, at any depth."""
    if isinstance(value, list):
        return tuple(_frozen(item) for item in value)
    if isinstance(value, dict):
        return {name: _frozen(item) for name, item in value.items()}
    return value
