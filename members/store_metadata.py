"""What a store records about its maps: `store.json`, next to the array or alone.

Which images they are of, and which the models were trained on, stands in `images.json`, by whose
digest `store.json` names it. Stores of one split have the same content there, so it is read, and
held in memory, once for all members.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from hashlib import sha256
from pathlib import Path
from typing import Any, Literal

import numpy as np

from evaluation.core.classes import Classes
from evaluation.core.files import atomic_file, read_json, write_json
from evaluation.core.ragged import Extent
from evaluation.core.types import Kept
from members.object_store import check_url

Kind = Literal["probabilities", "one_vs_rest", "logits"]

META, IMAGES = "store.json", "images.json"


@dataclass(frozen=True)
class TrainingIds:
    """Which images the models behind the maps were trained on.

    Args:
        models: ids of the training images of each model.
        model: for each image of the store, the index of the one model that made its maps;
            None where each image's maps come from all models together.

    Examples:
        >>> TrainingIds((frozenset("cd"), frozenset("ab")), (0, 1, 1, 0)).mask("abcd")
        array([False,  True, False,  True])
    """

    models: tuple[frozenset[str], ...]
    model: tuple[int, ...] | None = None

    def mask(self, ids: Sequence[str]) -> Kept:
        """Return, per image, whether a model behind its maps was trained on it."""
        if self.model is None:
            everything = frozenset().union(*self.models)
            return np.array([name in everything for name in ids], dtype=bool)
        pairs = zip(ids, self.model, strict=True)
        return np.array([name in self.models[model] for name, model in pairs], dtype=bool)


@dataclass(frozen=True)
class StoreMetadata:
    """What is known about a store's maps besides their values.

    Args:
        ids: one per image, distinct.
        classes: what the class axis means.
        kind: what the values are.
        label: for `one_vs_rest`, the store's one class; the class axis has length 1.
        dtype: how values are kept, by the name of a codec.
        seen: which images the models were trained on; None is *undeclared*.
        extent: number and sizes of the images.
        url: of the arrays in an object store; None where they are in the folder.
        error: largest and mean error of the probabilities that were written, where it depends on
            them.
    """

    ids: tuple[str, ...]
    classes: Classes
    kind: Kind
    label: int | None
    dtype: str
    seen: TrainingIds | None
    extent: Extent
    url: str | None = None
    error: tuple[float, float] | None = None

    @property
    def num_channels(self) -> int:
        """Length of the class axis."""
        return len(self.classes) if self.label is None else 1

    def write(self, folder: Path) -> None:
        """Write it into the folder of a store."""
        document: dict[str, Any] = {
            "images": _write_images(folder / IMAGES, self.ids, self.seen),
            "classes": self.classes.to_dict(),
            "kind": self.kind,
            "label": self.label,
            "dtype": self.dtype,
            "sizes": [[count, *size] for count, size in self.extent.runs],
        }
        if self.url is not None:
            document["at"] = self.url
        if self.error is not None:
            document["error"] = {"largest": self.error[0], "mean": self.error[1]}
        write_json(folder / META, document)

    @classmethod
    def read(cls, folder: Path) -> "StoreMetadata":
        """Read it from the folder of a store; malformed metadata raise any exception."""
        meta = read_json(folder / META)
        if "ids" in meta:  # as written before there was a file of images
            ids, seen = _parse_images(meta)
        else:
            ids, seen = _read_images(_ImagesFile(folder / IMAGES, meta["images"]))
        return cls(
            ids,
            Classes.from_dict(meta["classes"]),
            meta["kind"],
            meta["label"],
            meta["dtype"],
            seen,
            Extent(tuple((count, (rows, cols)) for count, rows, cols in meta["sizes"])),
            check_url(meta["at"]) if "at" in meta else None,
            (float(error["largest"]), float(error["mean"]))
            if (error := meta.get("error"))
            else None,
        )


@dataclass(frozen=True)
class _ImagesFile:
    path: Path = field(compare=False)
    digest: str


def _write_images(path: Path, ids: Sequence[str], seen: TrainingIds | None) -> str:
    """Write which images a store is of; return the digest."""
    document = {
        "ids": list(ids),
        "seen": seen
        and {
            "models": [sorted(model) for model in seen.models],
            "model": seen.model and list(seen.model),
        },
    }
    content = json.dumps(document, ensure_ascii=False, separators=(",", ":")).encode()
    with atomic_file(path) as partial:
        partial.write_bytes(content)
    return sha256(content).hexdigest()


@lru_cache(maxsize=4)
def _read_images(file: _ImagesFile) -> tuple[tuple[str, ...], TrainingIds | None]:
    """Read what `_write_images` wrote; of files with one digest, the first that is asked for."""
    content = file.path.read_bytes()
    if sha256(content).hexdigest() != file.digest:
        raise ValueError(f"{file.path.name} is not what {META} names")
    return _parse_images(json.loads(content))


def _parse_images(document: dict[str, Any]) -> tuple[tuple[str, ...], TrainingIds | None]:
    seen = document["seen"]
    return tuple(document["ids"]), seen and TrainingIds(
        tuple(frozenset(ids) for ids in seen["models"]),
        None if seen["model"] is None else tuple(seen["model"]),
    )
