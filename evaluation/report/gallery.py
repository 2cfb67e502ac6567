"""The gallery: each image on its way from the members' predictions to the candidate's labels.

Images, label maps and their changes as PNG inside a page.
"""

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import UInt8
from PIL import Image, ImageColor

from evaluation.core.classes import UNLABELLED, Classes
from evaluation.core.types import Array

SIDE_PX = 512
"""Longer sides are thinned to at most this, every k-th pixel."""

SAME, FIXED, BROKEN = 0, 1, 2
# Green and purple of Okabe and Ito's palette, which the first five classes do not have.
CHANGES = ("#000000", "#009E73", "#CC79A7")

OneMap = UInt8[np.ndarray, "row col"]


def image_uri(image: UInt8[np.ndarray, "channel row col"]) -> str:
    """Return a grey or RGB image as a data URI."""
    shown = np.moveaxis(image, 0, -1)[..., 0] if len(image) == 1 else np.moveaxis(image, 0, -1)
    return _uri(Image.fromarray(np.ascontiguousarray(_thinned(shown))))


def labels_uri(labels: OneMap, classes: Classes) -> str:
    """Return a label map in the classes' colours; unlabelled pixels are transparent."""
    return _indexed(labels, classes.colours, see_through=UNLABELLED)


def changes_uri(changes: OneMap) -> str:
    """Return where pixels were fixed and broken; others are transparent."""
    return _indexed(changes, CHANGES, see_through=SAME)


def changes(
    target: Array, before: Array, after: Array, *, ignore: int | None
) -> UInt8[np.ndarray, "*shape"]:
    """Mark the scored pixels that became right (FIXED) and that ceased to be (BROKEN).

    Args:
        target: class index per pixel; 255 where the annotators gave none.
        before: labels of the same pixels.
        after: labels of the same pixels.
        ignore: pixels of this true class are not scored.
    """
    scored = target != UNLABELLED
    if ignore is not None:
        scored &= target != ignore
    was, now = before == target, after == target
    return np.select([scored & ~was & now, scored & was & ~now], [FIXED, BROKEN], SAME).astype(
        np.uint8
    )


def _indexed(labels: OneMap, colours: tuple[str, ...], *, see_through: int) -> str:
    image = Image.fromarray(np.ascontiguousarray(_thinned(labels))).convert("P")
    # The palette's length decides how many bits a pixel gets, so it reaches to the highest label.
    palette = [*colours, *[colours[0]] * (see_through + 1 - len(colours))]
    image.putpalette([part for colour in palette for part in ImageColor.getrgb(colour)[:3]])
    return _uri(image, transparency=see_through)


def _thinned(pixels: Array) -> Array:
    step = -(-max(pixels.shape[:2]) // SIDE_PX)
    return pixels[::step, ::step]


def _uri(image: Image.Image, **options: int) -> str:
    file = io.BytesIO()
    image.save(file, "PNG", optimize=True, **options)
    return "data:image/png;base64," + base64.b64encode(file.getvalue()).decode()


BUDGET_BYTES = 7_000_000
"""Of all images: images beyond it are left out, so that the page stays under 10 MB."""


@dataclass(frozen=True)
class Layer:
    """What one stage says of the gallery's images.

    Args:
        name: of the stage: a member, the fusion, a step.
        labels: (image, row, col).
        before: place of the layer it is compared with; None for one that nothing comes before.
    """

    name: str
    labels: UInt8[np.ndarray, "image row col"]
    before: int | None


@dataclass(frozen=True)
class Gallery:
    """Some images, the most telling first.

    Args:
        ids: of the images.
        notes: a line on each, such as why it is shown.
        images: uint8, (image, channel, row, col).
        target: (image, row, col).
        layers: in the order in which they are walked through.
    """

    ids: Sequence[str]
    notes: Sequence[str]
    images: Array
    target: UInt8[np.ndarray, "image row col"]
    layers: Sequence[Layer]

    def document(self, classes: Classes) -> list[dict[str, Any]]:
        """Return what the page's script shows, as JSON values, as far as the budget goes."""
        shown: list[dict[str, Any]] = []
        left = BUDGET_BYTES
        for place in range(len(self.ids)):
            entry = self._entry(place, classes)
            left -= sum(len(layer["labels"]) + len(layer["changes"]) for layer in entry["layers"])
            left -= len(entry["image"]) + len(entry["target"])
            if left < 0 and shown:
                break
            shown.append(entry)
        return shown

    def _entry(self, place: int, classes: Classes) -> dict[str, Any]:
        target = self.target[place]
        layers = []
        for layer in self.layers:
            found = ""
            if layer.before is not None:
                earlier = self.layers[layer.before].labels[place]
                marked = changes(target, earlier, layer.labels[place], ignore=classes.ignore)
                found = changes_uri(marked)
            labels = labels_uri(layer.labels[place], classes)
            layers.append({"name": layer.name, "labels": labels, "changes": found})
        return {
            "id": self.ids[place],
            "note": self.notes[place],
            "image": image_uri(np.asarray(self.images[place])),
            "target": labels_uri(target, classes),
            "layers": layers,
        }
