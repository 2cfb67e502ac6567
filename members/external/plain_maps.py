"""Maps in arrays and files with no run to say what they are of: the values tell the axes.

Probabilities sum to 1 over the classes and over no other axis; one channel alone is the probability
of the foreground. Logits say nothing, so that there the number of classes must.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from evaluation.core.errors import BadMaps
from evaluation.core.ragged import Extent, Ragged, Stack, extent_of, map_stack, stack_images
from evaluation.core.types import Array
from members.external.adapted import two_classes
from members.external.array_files import (
    ARRAY_SUFFIXES,
    IDS,
    NIFTI,
    open_values,
    suffix_of,
    words_of,
)
from members.external.formats import (
    CLASSES_FIRST,
    CLASSES_LAST,
    LABEL_AXES,
    MAP_AXES,
    PIXELS,
    ExternalMaps,
    Layout,
    StackedMaps,
    arranged,
    open_external,
)
from members.external.stacks import LazyStack, MapFolder
from members.external.values import to_float32
from members.probabilities import sum_tolerance

CLASS_AXIS = {CLASSES_FIRST: 0, CLASSES_LAST: 2}
"""Of the maps of one image."""


@dataclass(frozen=True)
class ArrangedMaps(LazyStack):
    """Maps (image, class, row, col) of values with other axes, or of one channel.

    Args:
        stored: with the images first.
        layout: axes of an image.
        logits: whether the values are logits.
    """

    stored: Stack
    layout: Layout
    logits: bool

    @property
    def extent(self) -> Extent:
        """Number and sizes of the images."""
        if self.layout == CLASSES_LAST:
            rows, cols = self.stored.shape[1:3]
            return Extent.uniform(len(self.stored), (rows, cols))
        return extent_of(self.stored)

    @property
    def channels(self) -> tuple[int, ...]:
        """The number of classes."""
        return (max(2, self._stored_channels),)

    @property
    def dtype(self) -> np.dtype[Any]:
        """Type of the values."""
        dtype: np.dtype[Any] = np.dtype(self.stored.dtype)
        return dtype

    @property
    def _stored_channels(self) -> int:
        if self.layout == PIXELS:
            return 1
        return int(self.stored.shape[1 + CLASS_AXIS[self.layout]])

    def __getitem__(self, images: Any) -> Stack:
        """Read some of the images."""
        return map_stack(self._arrange, self.stored[images])

    def _arrange(self, values: Array) -> Array:
        maps = arranged(np.asarray(values), self.layout)
        if self._stored_channels == 1:
            maps = two_classes(maps, logits=self.logits)
        return np.ascontiguousarray(maps)


def open_plain_maps(
    path: Path, *, classes: int | None, logits: bool
) -> tuple[Stack, tuple[str, ...] | None]:
    """Open the maps of a file or folder.

    Args:
        path: an array file with all images, or a folder with one file per image.
        classes: their number, where it is known.
        logits: whether the values are logits.

    Returns:
        Maps (image, class, row, col), read when they are indexed, and the names of the images,
        where the files name them.

    Raises:
        BadData: a file that is missing or damaged.
        BadMaps: label maps, or maps whose axes could be read in two ways.
    """
    if suffix_of(path) in ARRAY_SUFFIXES and suffix_of(path) not in NIFTI and not path.is_dir():
        ids, array = words_of(path, IDS), open_values(path)
        if ids is None:
            return arrange_array(array, str(path), classes=classes, logits=logits), None
        files: ExternalMaps = StackedMaps(str(path), array, ids)
    else:
        files = open_external([path])
    if files.is_labels:
        raise BadMaps(f"{path} holds label maps; expected probability maps")
    layout = find_layout(files.as_stored(), str(path), classes=classes, logits=logits)
    stored = MapFolder.of(files.with_layout(layout))
    if stored.channels != (1,):
        return stored, stored.ids
    _check_one_channel(stored, str(path), classes)
    return ArrangedMaps(stored, CLASSES_FIRST, logits), stored.ids


def arrange_array(array: Stack, name: str, *, classes: int | None, logits: bool) -> Stack:
    """Return maps in memory, or mapped from a file, as (image, class, row, col).

    Args:
        array: (image, class, row, col), (image, row, col, class), or (image, row, col) of the
            foreground.
        name: what errors call them.
        classes: their number, where it is known.
        logits: whether the values are logits.

    Raises:
        BadMaps: axes that could be read in two ways, or the maps of one image without that axis.
    """
    if array.ndim == LABEL_AXES and array.dtype.kind == "f":
        if not isinstance(array, Ragged):
            _check_foreground(array, name, classes, logits=logits)
        _check_one_channel(array, name, classes)
        return ArrangedMaps(array, PIXELS, logits)
    if isinstance(array, Ragged) or array.ndim != MAP_AXES or 0 in array.shape:
        return array
    layout = find_layout(array, name, classes=classes, logits=logits)
    if array.shape[1 + CLASS_AXIS[layout]] == 1:
        _check_one_channel(array, name, classes)
    elif layout == CLASSES_FIRST:
        return array
    return ArrangedMaps(array, layout, logits)


def arrange_list(maps: Sequence[Array], name: str, *, classes: int | None, logits: bool) -> Stack:
    """Return a list with the maps of an image each, of any sizes, as (image, class, row, col).

    Raises:
        BadMaps: axes that could be read in two ways, or arrays that do not belong together.
    """
    layout = find_layout(maps, name, classes=classes, logits=logits)
    if len({(image.ndim, image.dtype) for image in maps}) > 1:
        raise BadMaps(
            f"{name} holds arrays of different types or numbers of axes; expected one kind"
        )
    images = [arranged(image, layout) for image in maps]
    if len({image.shape[:-2] for image in images}) > 1:
        shapes = list(dict.fromkeys(image.shape for image in maps))[:2]
        raise BadMaps(
            f"{name} holds arrays of shapes {', '.join(map(str, shapes))}; expected as many classes"
            " in each, first or last"
        )
    stack = stack_images(images)
    if stack.ndim != MAP_AXES or stack.shape[1] != 1:
        return stack
    _check_one_channel(stack, name, classes)
    return ArrangedMaps(stack, CLASSES_FIRST, logits)


def find_layout(images: Iterable[Array], name: str, *, classes: int | None, logits: bool) -> Layout:
    """Return the axes of maps of one image each: classes first where nothing says otherwise.

    Args:
        images: the values of each image, (class, row, col), (row, col, class), or (row, col) of the
            foreground; floating point, or uint8 scaled by 255. Only as many are read as it takes.
        name: what errors call them.
        classes: their number, where it is known.
        logits: whether the values are logits.

    Raises:
        BadMaps: maps that could be read in two ways.

    Examples:
        >>> find_layout([np.full((4, 6, 2), 0.5)], "maps", classes=None, logits=False)
        'row col class'
    """
    shape: tuple[int, ...] = ()
    fits = [CLASSES_FIRST, CLASSES_LAST]
    for image in images:
        if image.ndim != 3 or 0 in image.shape:
            return PIXELS if image.ndim == 2 else CLASSES_FIRST
        shape = shape or image.shape
        if logits:
            break
        fits = [layout for layout in fits if _sums_to_one(image, CLASS_AXIS[layout])]
        if len(fits) < 2:
            break
    if len(fits) == 1 or not shape:
        return fits[0]
    first, last = shape[0], shape[-1]
    counts = {CLASSES_FIRST: first, CLASSES_LAST: last}
    named = [layout for layout, count in counts.items() if count == classes]
    if len(named) == 1:
        return named[0]
    one_channel = [layout for layout, count in counts.items() if count == 1]
    if one_channel and (logits or not fits) and classes in (None, 2):
        return one_channel[0]
    if not fits or first == last or (logits and first < last):
        return CLASSES_FIRST  # as documented; whoever reads all values refuses other sums than 1
    raise BadMaps(
        f"{name}: the maps of an image have shape {shape}, and nothing says which axis is that of"
        f" the classes; give `classes` {first} for (class, row, col), or `classes` {last} for (row,"
        " col, class)"
    )


def _sums_to_one(image: Array, axis: int) -> bool:
    if image.shape[axis] < 2 or image.dtype.kind == "c":
        return False
    sums = to_float32(image, str(image.dtype)).sum(axis=axis)
    tolerance = sum_tolerance(str(image.dtype), image.shape[axis])
    return bool(np.abs(sums - 1).max() <= tolerance)  # False of NaN


def _check_foreground(array: Array, name: str, classes: int | None, *, logits: bool) -> None:
    """Refuse three axes that are, or may be, the maps of one image."""
    if logits:
        is_image = classes != 2 and not (classes is None and len(array) == 1)
    else:
        is_image = any(_sums_to_one(array, axis) for axis in CLASS_AXIS.values())
    if is_image:
        hint = " or, of logits (image, row, col) of the foreground, `classes` 2" * logits
        raise BadMaps(
            f"{name} has shape {array.shape}, the maps of one image; expected (image, class, row,"
            f" col): give it four axes{hint}"
        )


def _check_one_channel(maps: Stack, name: str, classes: int | None) -> None:
    if maps.dtype.kind != "f" or classes not in (None, 2):
        expected = "floating point" if classes in (None, 2) else f"{classes} classes"
        raise BadMaps(
            f"{name} holds one channel of {maps.dtype}; expected {expected}: one channel is the"
            " probability of the foreground, of two classes"
        )
    if (np.asarray(maps[:1]) == 1).all():
        raise BadMaps(
            f"{name} has 1 class, of probability 1 in its whole first image, as a softmax over one"
            " class gives; expected 2 or more classes, or the probability of the foreground"
        )
