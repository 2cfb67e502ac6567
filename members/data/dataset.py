"""Data sets: images, their labels where known, and their folder on disk.

Also counts the pixels of each class, and resizes images and masks.
"""

import csv
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Integer
from PIL import Image

from evaluation.core.blocks import blocks
from evaluation.core.classes import UNLABELLED, Classes
from evaluation.core.errors import BadData, BadLabels
from evaluation.core.files import (
    atomic_folder,
    create_stack,
    open_array,
    open_stack,
    read_json,
    write_json,
)
from evaluation.core.ragged import Extent, Size, Stack, empty_stack, extent_of
from evaluation.core.types import Array

CHANNELS = (1, 3)
IMAGE_DTYPES = (np.uint8, np.uint16, np.float32)
CLASSES_FILE = "classes.json"
MAX_SHOWN = 3
NUM_LABELS = UNLABELLED + 1


@dataclass(frozen=True, eq=False)
class DataSet:
    """Images with ids, and masks and groups where known; checked when made.

    Users cause what is wrong here, so `__post_init__` checks shapes and types with one-line errors.

    Args:
        images: uint8, uint16 or float32, (image, channel, row, col); may be a memory map, and is
            `Ragged` where images have several sizes: those of one size lie next to each other.
        masks: uint8 class index per pixel, (image, row, col), 255 where unlabelled; None where no
            labels are known at all.
        ids: one per image, distinct.
        groups: a name per image; images of one group resemble each other (neighbouring terrain,
            one patient) and must not be divided between training and test. None where every
            image is its own group.
        classes: what the labels mean.

    Raises:
        BadData: arrays of another type, or lengths, sizes or ids that do not fit together.
        BadLabels: a mask with a label outside the classes.

    Examples:
        >>> from evaluation.core.classes import numbered
        >>> images = np.zeros((2, 1, 4, 6), np.uint8)
        >>> data = DataSet(images, None, ("a", "b"), None, numbered(3, ignore=None))
        >>> len(data), str(data.extent), data.take([1]).ids
        (2, '4x6', ('b',))
    """

    images: Stack
    masks: Stack | None
    ids: tuple[str, ...]
    groups: Array | None
    classes: Classes

    def __post_init__(self) -> None:
        """Check everything once, so that a data set can be trusted."""
        _check_images(self.images)
        _check_ids(self.ids, len(self.images))
        if self.groups is not None:
            _check_groups(self.groups, len(self.images))
        if self.masks is not None:
            _check_masks(self.masks, self.images, self.ids, self.classes)

    def __len__(self) -> int:
        """Return the number of images."""
        return len(self.ids)

    @property
    def channels(self) -> int:
        """Channels of an image."""
        return int(self.images.shape[1])

    @property
    def extent(self) -> Extent:
        """Number and sizes of the images."""
        return extent_of(self.images)

    def target(self) -> Stack:
        """Return the masks.

        Raises:
            BadData: the set is unlabelled.
        """
        if self.masks is None:
            raise BadData(f"images {self.ids[0]}, ... have no masks; expected a labelled set")
        return self.masks

    def group_names(self) -> Array:
        """Return the group of each image; its id where it is its own group."""
        return np.array(self.ids) if self.groups is None else self.groups

    def take(self, indices: Any) -> "DataSet":
        """Return the images at `indices`: integers, a slice, or one bool per image."""
        return replace(
            self,
            images=self.images[indices],
            masks=None if self.masks is None else self.masks[indices],
            ids=tuple(self.ids[index] for index in np.arange(len(self))[indices]),
            groups=None if self.groups is None else self.groups[indices],
        )

    def save(self, folder: Path) -> None:
        """Write `images.npy`, `target.npy` where known and `index.csv`, all of them or none.

        Class names belong to the run, not the split: see `write_classes`.
        """
        with atomic_folder(folder) as partial:
            _save_stack(partial / "images.npy", self.images, (self.channels,))
            if self.masks is not None:
                _save_stack(partial / "target.npy", self.masks, ())
            _write_index(partial / "index.csv", self)

    @classmethod
    def load(cls, folder: Path, classes: Classes | None = None) -> "DataSet":
        """Open a folder that `save` wrote; images and masks stay on disk until they are read.

        Args:
            folder: the split's folder.
            classes: what the labels mean; by default from `classes.json` next to the folder.

        Raises:
            BadData: a file that is missing or damaged, or files that do not fit together.
        """
        index = _read_index(folder / "index.csv")
        images, target = folder / "images.npy", folder / "target.npy"
        masks = None
        if index.extent is None:
            opened: Stack = open_array(images)
            masks = open_array(target) if target.is_file() else None
        else:
            opened = open_stack(images, index.extent, (index.channels,))
            masks = open_stack(target, index.extent) if target.is_file() else None
        return cls(
            images=opened,
            masks=masks,
            ids=index.ids,
            groups=index.groups,
            classes=read_classes(folder.parent / CLASSES_FILE) if classes is None else classes,
        )


@dataclass(frozen=True, eq=False)
class StoredSet:
    """Images as a data set stores them, with masks whose values are not class indices yet.

    Args:
        images: see `DataSet`, like `ids` and `groups`.
        masks: stored values, uint8, (image, row, col); None where no labels are known.
        ids: one per image.
        groups: a name per image, or None.
        known: the classes, where the data set itself tells them.
    """

    images: Stack
    masks: Stack | None
    ids: tuple[str, ...]
    groups: Array | None = None
    known: Classes | None = None

    def stored_values(self) -> Integer[np.ndarray, "image value"]:
        """Return the number of pixels of each value, 0 to 255, in each mask."""
        masks = np.empty((0, 1, 1), np.uint8) if self.masks is None else self.masks
        return class_pixels(masks, NUM_LABELS)

    def mapped(self, classes: Classes) -> DataSet:
        """Return the set with class indices in its masks.

        Raises:
            BadData, BadLabels: see `DataSet`.
        """
        masks = self.masks
        if masks is not None and not classes.stored_as_indices:
            _check_stored_masks(masks, self.ids)
            masks = self._mapped_masks(masks, classes)
        return DataSet(self.images, masks, self.ids, self.groups, classes)

    def _mapped_masks(self, masks: Stack, classes: Classes) -> Stack:
        mapped = empty_stack(extent_of(masks), np.uint8)
        for index, mask in enumerate(masks):
            try:
                mapped[index : index + 1] = classes.indices(mask[None])
            except BadLabels as error:
                raise BadLabels(f"the mask of {self.ids[index]!r} {error}") from None
        return mapped

    def by_size(self) -> "StoredSet":
        """Return the set with images of one size next to each other, otherwise in their order."""
        extent = extent_of(self.images)
        if len(extent.runs) == len({size for _, size in extent.runs}):
            return self
        sizes = extent.sizes
        first = {size: index for index, size in reversed(list(enumerate(sizes)))}
        order = np.array(sorted(range(len(sizes)), key=lambda index: first[sizes[index]]))
        return StoredSet(
            self.images[order],
            None if self.masks is None else self.masks[order],
            tuple(self.ids[index] for index in order),
            None if self.groups is None else self.groups[order],
            self.known,
        )


def check_learnable(data: DataSet) -> None:
    """Check that masks hold two or more scored classes: else no prediction can be wrong.

    Raises:
        BadData: nothing can be learnt from them.
    """
    present = _scored_classes(data)
    if len(present) < 2:
        raise BadData(
            f"of the scored classes the masks hold {', '.join(present) or 'none'}; expected two or"
            " more, or nothing can be learnt; see --ignore, --foreground and --unlabelled"
        )


def check_scorable(data: DataSet, name: str) -> None:
    """Check that masks hold a scored pixel.

    Args:
        data: a labelled set.
        name: what errors call it.

    Raises:
        BadData: they do not.
    """
    if not _scored_classes(data):
        raise BadData(
            f"the masks of {name} hold no pixel of a scored class; expected one at least; see"
            " --validation and --ignore"
        )


def _scored_classes(data: DataSet) -> list[str]:
    """Name the scored classes that occur."""
    pixels = class_pixels(data.target(), len(data.classes)).sum(axis=0)
    return [data.classes.names[label] for label in data.classes.scored if pixels[label]]


def write_classes(path: Path, classes: Classes) -> None:
    """Write names, ignored class and colours as JSON."""
    write_json(path, classes.to_dict())


def read_classes(path: Path) -> Classes:
    """Read what `write_classes` wrote.

    Raises:
        BadData: the file is missing or malformed.
    """
    try:
        return Classes.from_dict(read_json(path))
    except BadData as error:
        raise BadData(f"{path}: {error}; restore it or remove it") from None


def _check_images(images: Stack) -> None:
    if images.dtype not in IMAGE_DTYPES:
        raise BadData(f"images are {images.dtype}; expected uint8, uint16 or float32")
    if images.ndim != 4 or 0 in images.shape:
        raise BadData(f"images have shape {images.shape}; expected (image, channel, row, col)")


def _check_ids(ids: Sequence[str], images: int) -> None:
    if len(ids) != images:
        raise BadData(f"{len(ids)} ids for {images} images; expected one each")
    if not all(ids):
        raise BadData(f"image {ids.index('')} has an empty id; expected a name")
    if len(set(ids)) < len(ids):
        duplicate = next(name for name, count in Counter(ids).items() if count > 1)
        raise BadData(f"id {duplicate!r} is duplicated; expected distinct ids")


def _check_groups(groups: Array, images: int) -> None:
    if groups.shape != (images,) or groups.dtype.kind != "U":
        raise BadData(
            f"groups are {groups.dtype} of shape {groups.shape}; expected {images} strings"
        )


def _check_masks(masks: Stack, images: Stack, ids: Sequence[str], classes: Classes) -> None:
    if masks.dtype != np.uint8:
        raise BadLabels(f"masks are {masks.dtype}; expected uint8")
    if masks.ndim != 3 or extent_of(masks) != extent_of(images):
        raise BadLabels(
            f"masks have shape {masks.shape}, images {images.shape};"
            " expected (image, row, col) of the same images"
        )
    for block in blocks(extent_of(masks)):
        part = np.asarray(masks[block])
        outside = (part >= len(classes)) & (part != UNLABELLED)
        if outside.any():
            first = ids[block.start + int(outside.any(axis=(1, 2)).argmax())]
            raise BadLabels(
                f"the mask of {first!r} holds {np.unique(part[outside])[:MAX_SHOWN].tolist()};"
                f" expected 0 to {len(classes) - 1}, or {UNLABELLED} for unlabelled; name more"
                " classes or correct the mask"
            )


def _check_stored_masks(masks: Stack, ids: Sequence[str]) -> None:
    if masks.dtype != np.uint8 or len(masks) != len(ids):
        raise BadLabels(
            f"masks are {masks.dtype} of {len(masks)} images; expected uint8 of {len(ids)}"
        )


def _save_stack(path: Path, images: Stack, channels: tuple[int, ...]) -> None:
    extent = extent_of(images)
    saved = create_stack(path, dtype=images.dtype, extent=extent, channels=channels)
    for block in blocks(extent):
        saved[block] = images[block]
    saved.flush()


@dataclass(frozen=True)
class _Index:
    """What `index.csv` tells: extent and channels are there only if images have several sizes."""

    ids: tuple[str, ...]
    groups: Array | None = None
    extent: Extent | None = None
    channels: int = 0


GROUP, SIZE_COLUMNS = "group", ("channels", "rows", "cols")


def _write_index(path: Path, data: DataSet) -> None:
    columns: dict[str, Sequence[Any]] = {"id": data.ids}
    if data.groups is not None:
        columns[GROUP] = data.groups.tolist()
    if data.extent.one_size is None:
        sizes = [(data.channels, *size) for size in data.extent.sizes]
        columns |= dict(zip(SIZE_COLUMNS, zip(*sizes, strict=True), strict=True))
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(columns)
        writer.writerows(zip(*columns.values(), strict=True))


def _read_index(path: Path) -> _Index:
    try:
        with path.open(newline="", encoding="utf-8") as file:
            head, *rows = list(csv.reader(file))
            first = ["id", GROUP][: 1 + (GROUP in head)]
            if head not in (first, [*first, *SIZE_COLUMNS]) or any(
                len(row) != len(head) for row in rows
            ):
                raise ValueError("other columns than id, group, channels, rows, cols")
        columns = dict(zip(head, zip(*rows, strict=True), strict=True)) if rows else {}
        ids = columns.get("id", ())
        groups = np.array(columns[GROUP], dtype=np.str_) if GROUP in columns else None
        if "rows" not in columns:
            return _Index(ids, groups)
        sizes = [(int(r), int(c)) for r, c in zip(columns["rows"], columns["cols"], strict=True)]
        return _Index(ids, groups, Extent.of_sizes(sizes), int(columns["channels"][0]))
    except FileNotFoundError:
        raise BadData(
            f"{path} is missing; expected a folder with images.npy and index.csv"
        ) from None
    except (OSError, ValueError, csv.Error) as error:
        raise BadData(f"{path} cannot be read ({error}); write the data set again") from None


def class_pixels(masks: Stack, classes: int) -> Integer[np.ndarray, "image class"]:
    """Count the pixels of each class in each image; other labels (255) are not counted.

    Masks may be a memory map: they are read block by block.

    Examples:
        >>> class_pixels(np.array([[[0, 1, 1, 255]]], np.uint8), 3)
        array([[1, 2, 0]])
    """
    counts = np.zeros((len(masks), classes), np.int64)
    for block in blocks(extent_of(masks)):
        part = np.asarray(masks[block], np.int64)
        offsets = NUM_LABELS * np.arange(len(part))[:, None, None]
        pixels = np.bincount((part + offsets).ravel(), minlength=NUM_LABELS * len(part))
        counts[block] = pixels.reshape(len(part), NUM_LABELS)[:, :classes]
    return counts


def resize_image(image: Array, size: Size) -> Array:
    """Resize an image, each pixel the mean of its area.

    Rows and columns are averaged in turn, each time rounded: up to 1 level from the exact mean.

    Args:
        image: uint8, (row, col) or (row, col, 3), or uint16 or float32, (row, col).
        size: rows and columns.
    """
    if image.dtype == np.uint8:
        return _resized(image, size, Image.Resampling.BOX)
    resized = _resized(image.astype(np.float32), size, Image.Resampling.BOX)
    return (resized.round() if image.dtype.kind == "u" else resized).astype(image.dtype)


def resize_mask(mask: Array, size: Size) -> Array:
    """Resize a uint8 mask, (row, col), by the nearest pixel: no new label appears."""
    return _resized(mask, size, Image.Resampling.NEAREST)


def _resized(image: Array, size: Size, method: Image.Resampling) -> Array:
    if image.shape[:2] == size:
        return image
    rows, cols = size
    return np.asarray(Image.fromarray(np.ascontiguousarray(image)).resize((cols, rows), method))
