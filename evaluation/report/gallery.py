"""The gallery: images with labels of each stage, from members to candidate, inside the page."""

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float, UInt8
from PIL import Image, ImageColor

from evaluation.confusion import scored_pixels
from evaluation.core.arrays import view_image
from evaluation.core.classes import UNLABELLED, Classes
from evaluation.core.ragged import Stack
from evaluation.core.types import Array

MAX_SIDE_PX = 768
"""Larger images are reduced to every k-th pixel."""

MAX_BYTES = 7_000_000
"""Of all images: images beyond it are left out, so that the page stays under 10 MB."""

EXACT_PIXELS = 1 << 15
"""Images of up to so many pixels are shown as they are, larger ones compressed with loss."""

QUALITY = 88
LEVELS = 32
"""Shades of uncertainty: with more, the page grows and the eye sees no difference."""

RIGHT, WRONG, FIXED, BROKEN = 0, 1, 2, 3
ERROR_COLOURS = {
    "wrong before and after": "#ff4d4d",
    "fixed by this stage": "#00c08b",
    "broken by this stage": "#ff5cf4",
}

HEAT = ("#000004", "#3b0f70", "#8c2981", "#de4968", "#fe9f6d", "#fcfdbf")
"""Matplotlib's `magma` at six even steps: dark where certain."""

LabelMap = UInt8[np.ndarray, "row col"]


def image_uri(image: Array) -> str:
    """Return an image (channel, row, col) as a data URI; see `view_image`."""
    pixels = view_image(_reduced(image, axes=(1, 2)))
    shown = Image.fromarray(pixels[..., 0] if len(image) < 3 else pixels)
    if pixels.shape[0] * pixels.shape[1] <= EXACT_PIXELS:
        return _uri(shown, "PNG", optimize=True)
    return _uri(shown.convert("RGB"), "WEBP", quality=QUALITY)


def labels_uri(labels: LabelMap, classes: Classes) -> str:
    """Return a label map in the classes' colours; unlabelled pixels are transparent."""
    return _indexed(labels, classes.colours, transparent=UNLABELLED)


def errors_uri(kinds: LabelMap) -> str:
    """Return an image of what `errors` marked; correct and unscored pixels are transparent."""
    return _indexed(kinds, ("#000000", *ERROR_COLOURS.values()), transparent=RIGHT)


def uncertainty_uri(shares: Float[np.ndarray, "row col"]) -> str:
    """Return an image of the uncertainty of each pixel, 0 to 1."""
    levels = np.round(_reduced(shares).clip(0, 1) * (LEVELS - 1)).astype(np.uint8)
    steps = np.linspace(0, LEVELS - 1, len(HEAT))
    channels = np.array([ImageColor.getrgb(colour) for colour in HEAT]).T
    palette = np.stack([np.interp(np.arange(LEVELS), steps, c) for c in channels], axis=1)
    image = Image.fromarray(levels).convert("P")
    image.putpalette(palette.round().astype(np.uint8).ravel().tolist())
    return _uri(image, "PNG", optimize=True)


def errors(
    target: Array, before: Array | None, after: Array, *, ignore: int | None
) -> UInt8[np.ndarray, "*shape"]:
    """Mark scored pixels that are wrong (WRONG), no longer (FIXED), or wrong at last (BROKEN).

    Args:
        target: class index per pixel; 255 where unlabelled.
        before: labels of the same pixels before the stage; None for the first stage, whose errors
            are all WRONG.
        after: labels of the same pixels.
        ignore: the ignored class, or None.
    """
    scored, now = scored_pixels(target, ignore), after == target
    was = now if before is None else before == target
    kinds = np.select(
        [scored & ~was & ~now, scored & ~was & now, scored & was & ~now],
        [WRONG, FIXED, BROKEN],
        RIGHT,
    )
    return kinds.astype(np.uint8)


def _indexed(labels: LabelMap, colours: tuple[str, ...], *, transparent: int) -> str:
    image = Image.fromarray(np.ascontiguousarray(_reduced(labels))).convert("P")
    # The palette's length decides how many bits a pixel gets, so it reaches to the highest label.
    palette = [*colours, *[colours[0]] * (transparent + 1 - len(colours))]
    image.putpalette([part for colour in palette for part in ImageColor.getrgb(colour)[:3]])
    return _uri(image, "PNG", optimize=True, transparency=transparent)


def _step(height: int, width: int) -> int:
    return -(-max(height, width) // MAX_SIDE_PX)


def _reduced(pixels: Array, axes: tuple[int, int] = (0, 1)) -> Array:
    step = _step(*(pixels.shape[axis] for axis in axes))
    return pixels[(..., slice(None, None, step), slice(None, None, step))]


def _uri(image: Image.Image, kind: str, **options: int) -> str:
    file = io.BytesIO()
    image.save(file, kind, **options)
    encoded = base64.b64encode(file.getvalue()).decode()
    return f"data:image/{kind.lower()};base64,{encoded}"


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


class ImageFilter(NamedTuple):
    """Images that share something, in the order to look at them.

    Args:
        name: of the filter.
        text: what its images are, in a sentence.
        images: indices of the gallery's images, each with a note on it.
    """

    name: str
    text: str
    images: Sequence[tuple[int, str]]


@dataclass(frozen=True)
class Gallery:
    """Images with their labels after each stage, the most important images first.

    Args:
        ids: of the images.
        images: (channel, row, col) each.
        target: (row, col) each.
        layers: in the order of the stages.
        source: whose uncertainty is shown.
        uncertainty: 0 to 1 per pixel, (row, col) each.
        filters: the first is shown at first.
        note: a sentence on filters that are absent.
    """

    ids: Sequence[str]
    images: Stack
    target: Stack
    layers: Sequence[Layer]
    source: str
    uncertainty: Stack
    filters: Sequence[ImageFilter]
    note: str = ""

    def to_dict(self, classes: Classes) -> dict[str, Any]:
        """Return JSON values for the page's script, of as many images as fit in `MAX_BYTES`."""
        entries: list[dict[str, Any]] = []
        left = MAX_BYTES
        for index in range(len(self.ids)):
            entry = self._entry(index, classes)
            left -= _characters(entry)
            if left < 0 and entries:
                break
            entries.append(entry)
        return {
            "stages": [layer.name for layer in self.layers],
            "source": self.source,
            "classes": [list(pair) for pair in zip(classes.names, classes.colours, strict=True)],
            "images": entries,
            "filters": [
                {"name": one.name, "text": one.text, "images": shown}
                for one in self.filters
                if (shown := [[k, note] for k, note in one.images if k < len(entries)])
            ],
        }

    def _entry(self, index: int, classes: Classes) -> dict[str, Any]:
        target = self.target[index]
        stages = []
        for layer in self.layers:
            labels = layer.labels[index]
            before = None if layer.before is None else self.layers[layer.before].labels[index]
            kinds = errors(target, before, labels, ignore=classes.ignore)
            stages.append({"labels": labels_uri(labels, classes), "errors": errors_uri(kinds)})
        height, width = target.shape
        return {
            "id": self.ids[index],
            "height": height,
            "width": width,
            "step": _step(height, width),
            "image": image_uri(np.asarray(self.images[index])),
            "target": labels_uri(target, classes),
            "uncertainty": uncertainty_uri(np.asarray(self.uncertainty[index])),
            "stages": stages,
        }


def _characters(document: Any) -> int:
    """Return how many characters the texts in a document have."""
    if isinstance(document, str):
        return len(document)
    inner = document.values() if isinstance(document, dict) else document
    return sum(map(_characters, inner)) if isinstance(document, dict | list) else 0
