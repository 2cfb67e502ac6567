"""What a store says of its maps: `store.json`, beside the array or alone."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from evaluation.core.classes import Classes
from evaluation.core.files import read_json, write_json
from evaluation.core.types import Kept
from members.object_store import check_url

StoreDtype = Literal["float16", "uint8", "float32"]
Kind = Literal["probabilities", "one_vs_rest", "logits"]

META = "store.json"


@dataclass(frozen=True)
class TrainingIds:
    """Which images the models behind the maps were trained on.

    Args:
        models: ids of the training images of each model.
        model: for each image of the store, the index of the one model that made its maps;
            None where each image's maps come from all models together.
    """

    models: tuple[frozenset[str], ...]
    model: tuple[int, ...] | None = None

    def mask(self, ids: Sequence[str]) -> Kept:
        """Tell for each image whether a model behind its maps was trained on it."""
        if self.model is None:
            everything = frozenset().union(*self.models)
            return np.array([name in everything for name in ids], dtype=bool)
        pairs = zip(ids, self.model, strict=True)
        return np.array([name in self.models[model] for name, model in pairs], dtype=bool)


@dataclass(frozen=True)
class StoreMetadata:
    """What is known of a store's maps beside their values.

    Args:
        ids: one an image, distinct.
        classes: what the class axis means.
        kind: what the values are.
        label: for `one_vs_rest`, the store's one class; the class axis has length 1.
        dtype: the type that values are stored in.
        seen: which images the models were trained on; None is *undeclared*.
        at: the URL of the array; None where it lies beside.
    """

    ids: tuple[str, ...]
    classes: Classes
    kind: Kind
    label: int | None
    dtype: StoreDtype
    seen: TrainingIds | None
    at: str | None = None

    @property
    def depth(self) -> int:
        """How long the class axis is."""
        return len(self.classes) if self.label is None else 1

    def write(self, folder: Path) -> None:
        """Write it into the folder of a store."""
        write_json(folder / META, self._document())

    @classmethod
    def read(cls, folder: Path) -> "StoreMetadata":
        """Read it from the folder of a store; whatever is wrong with it raises something."""
        meta = read_json(folder / META)
        seen = meta["seen"]
        return cls(
            tuple(meta["ids"]),
            Classes.from_document(meta["classes"]),
            meta["kind"],
            meta["label"],
            meta["dtype"],
            seen
            and TrainingIds(
                tuple(frozenset(ids) for ids in seen["models"]),
                None if seen["model"] is None else tuple(seen["model"]),
            ),
            check_url(meta["at"]) if "at" in meta else None,
        )

    def _document(self) -> dict[str, Any]:
        seen = self.seen
        document = {
            "ids": list(self.ids),
            "classes": self.classes.document(),
            "kind": self.kind,
            "label": self.label,
            "dtype": self.dtype,
            "seen": seen
            and {
                "models": [sorted(model) for model in seen.models],
                "model": seen.model and list(seen.model),
            },
        }
        return document if self.at is None else {**document, "at": self.at}
