"""The gallery: each picture on its way from the members' guesses to the candidate's labels."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import UInt8

from evaluation.ground.arrays import Array
from evaluation.ground.classes import Classes
from evaluation.report.images import changes, changes_uri, labels_uri, picture_uri

BUDGET_BYTES = 7_000_000
"""Of all images: pictures beyond it are left out, so that the page stays under 10 MB."""


@dataclass(frozen=True)
class Layer:
    """What one stage says of the gallery's pictures.

    Args:
        name: of the stage: a member, the fusion, a step.
        labels: (picture, row, col).
        before: place of the layer it is compared with; None for one that nothing comes before.
    """

    name: str
    labels: UInt8[np.ndarray, "picture row col"]
    before: int | None


@dataclass(frozen=True)
class Gallery:
    """Some pictures, the most telling first.

    Args:
        ids: of the pictures.
        notes: a line on each, such as why it is shown.
        pictures: uint8, (picture, channel, row, col).
        truth: (picture, row, col).
        layers: in the order in which they are walked through.
    """

    ids: Sequence[str]
    notes: Sequence[str]
    pictures: Array
    truth: UInt8[np.ndarray, "picture row col"]
    layers: Sequence[Layer]

    def document(self, classes: Classes) -> list[dict[str, Any]]:
        """Return what the page's script shows, as JSON values, as far as the budget goes."""
        shown: list[dict[str, Any]] = []
        left = BUDGET_BYTES
        for place in range(len(self.ids)):
            entry = self._entry(place, classes)
            left -= sum(len(layer["labels"]) + len(layer["changes"]) for layer in entry["layers"])
            left -= len(entry["picture"]) + len(entry["truth"])
            if left < 0 and shown:
                break
            shown.append(entry)
        return shown

    def _entry(self, place: int, classes: Classes) -> dict[str, Any]:
        truth = self.truth[place]
        layers = []
        for layer in self.layers:
            found = ""
            if layer.before is not None:
                earlier = self.layers[layer.before].labels[place]
                marked = changes(truth, earlier, layer.labels[place], ignore=classes.ignore)
                found = changes_uri(marked)
            labels = labels_uri(layer.labels[place], classes)
            layers.append({"name": layer.name, "labels": labels, "changes": found})
        return {
            "id": self.ids[place],
            "note": self.notes[place],
            "picture": picture_uri(np.asarray(self.pictures[place])),
            "truth": labels_uri(truth, classes),
            "layers": layers,
        }
