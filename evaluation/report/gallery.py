"""The gallery: images with labels of each stage, from members to candidate, as PNG in the page."""

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import UInt8
from PIL import Image, ImageColor

from evaluation.confusion import scored_pixels
from evaluation.core.arrays import view_image
from evaluation.core.classes import UNLABELLED, Classes
from evaluation.core.ragged import Stack
from evaluation.core.types import Array

MAX_SIDE_PX = 512
"""Larger images are reduced to every k-th pixel."""

MAX_BYTES = 7_000_000
"""Of all images: images beyond it are left out, so that the page stays under 10 MB."""

SAME, FIXED, BROKEN = 0, 1, 2
# Green and purple of Okabe and Ito's palette, which the first five classes do not have.
CHANGE_COLOURS = ("#000000", "#009E73", "#CC79A7")

LabelMap = UInt8[np.ndarray, "row col"]


def image_uri(image: Array) -> str:
    """Return an image (channel, row, col) as a data URI; see `view_image`."""
    pixels = view_image(_reduced(image, axes=(1, 2)))
    return _uri(Image.fromarray(pixels[..., 0] if len(image) < 3 else pixels))


def labels_uri(labels: LabelMap, classes: Classes) -> str:
    """Return a label map in the classes' colours; unlabelled pixels are transparent."""
    return _indexed(labels, classes.colours, transparent=UNLABELLED)


def changes_uri(changes: LabelMap) -> str:
    """Return an image of the fixed and broken pixels; others are transparent."""
    return _indexed(changes, CHANGE_COLOURS, transparent=SAME)


def changes(
    target: Array, before: Array, after: Array, *, ignore: int | None
) -> UInt8[np.ndarray, "*shape"]:
    """Mark the scored pixels that became correct (FIXED) and that became wrong (BROKEN).

    Args:
        target: class index per pixel; 255 where unlabelled.
        before: labels of the same pixels.
        after: labels of the same pixels.
        ignore: the ignored class, or None.
    """
    scored = scored_pixels(target, ignore)
    was, now = before == target, after == target
    kinds = np.select([scored & ~was & now, scored & was & ~now], [FIXED, BROKEN], SAME)
    return kinds.astype(np.uint8)


def _indexed(labels: LabelMap, colours: tuple[str, ...], *, transparent: int) -> str:
    image = Image.fromarray(np.ascontiguousarray(_reduced(labels))).convert("P")
    # The palette's length decides how many bits a pixel gets, so it reaches to the highest label.
    palette = [*colours, *[colours[0]] * (transparent + 1 - len(colours))]
    image.putpalette([part for colour in palette for part in ImageColor.getrgb(colour)[:3]])
    return _uri(image, transparency=transparent)


def _reduced(pixels: Array, axes: tuple[int, int] = (0, 1)) -> Array:
    step = -(-max(pixels.shape[axis] for axis in axes) // MAX_SIDE_PX)
    return pixels[(..., slice(None, None, step), slice(None, None, step))]


def _uri(image: Image.Image, **options: int) -> str:
    file = io.BytesIO()
    image.save(file, "PNG", optimize=True, **options)
    return "data:image/png;base64," + base64.b64encode(file.getvalue()).decode()


@dataclass(frozen=True)
class Layer:
    """Labels of the gallery's images after one stage.

    Args:
        name: of the stage: a member, the fusion, a step.
        labels: (row, col) of each image.
        before: index of the layer it is compared with; None if it is the first.
    """

    name: str
    labels: Stack
    before: int | None


@dataclass(frozen=True)
class Gallery:
    """Images with their labels after each stage, the most important images first.

    Args:
        ids: of the images.
        notes: a line on each, such as why it is shown.
        images: (channel, row, col) each.
        target: (row, col) each.
        layers: in the order of the stages.
    """

    ids: Sequence[str]
    notes: Sequence[str]
    images: Stack
    target: Stack
    layers: Sequence[Layer]

    def to_dict(self, classes: Classes) -> list[dict[str, Any]]:
        """Return JSON values for the page's script, of as many images as fit in `MAX_BYTES`."""
        entries: list[dict[str, Any]] = []
        left = MAX_BYTES
        for index in range(len(self.ids)):
            entry = self._entry(index, classes)
            left -= sum(len(layer["labels"]) + len(layer["changes"]) for layer in entry["layers"])
            left -= len(entry["image"]) + len(entry["target"])
            if left < 0 and entries:
                break
            entries.append(entry)
        return entries

    def _entry(self, index: int, classes: Classes) -> dict[str, Any]:
        target = self.target[index]
        layers = []
        for layer in self.layers:
            labels, uri = layer.labels[index], ""
            if layer.before is not None:
                before = self.layers[layer.before].labels[index]
                uri = changes_uri(changes(target, before, labels, ignore=classes.ignore))
            layers.append(
                {"name": layer.name, "labels": labels_uri(labels, classes), "changes": uri}
            )
        return {
            "id": self.ids[index],
            "note": self.notes[index],
            "image": image_uri(np.asarray(self.images[index])),
            "target": labels_uri(target, classes),
            "layers": layers,
        }
