"""Open external maps: stacks, one file per image, nnU-Net's volumes, Zarr arrays, label maps."""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np

from evaluation.core.errors import BadLabels, BadMaps
from evaluation.core.files import check_no_external_links
from evaluation.core.ragged import Extent, Size
from evaluation.core.types import Array
from members.data.image_files import MASK_SUFFIXES, image_size, list_files, read_labels
from members.external.array_files import (
    ARRAY_SUFFIXES,
    CLASSES,
    IDS,
    NIFTI,
    image_id,
    key_of,
    open_values,
    shape_of,
    suffix_of,
    words_of,
)
from members.external.resize import is_scaled

SUFFIXES = tuple(dict.fromkeys((*ARRAY_SUFFIXES, *MASK_SUFFIXES)))
ZARR_FILES = ("zarr.json", ".zarray")
LABEL_AXES, MAP_AXES = 3, 4
"""Of a stack; a file of one image has one fewer, and a volume as many as a stack of maps."""

Layout = Literal["class row col", "row col class", "row col", "1 row col", "row col 1"]
"""The axes of one image: maps with classes first or last; labels, or maps of the foreground alone;
labels with an axis of length 1."""

CLASSES_FIRST: Layout = "class row col"
CLASSES_LAST: Layout = "row col class"
PIXELS: Layout = "row col"
LABELS_FIRST: Layout = "1 row col"
LABELS_LAST: Layout = "row col 1"


@dataclass(frozen=True)
class ExpectedMaps:
    """What the run knows of the images that maps are of.

    Args:
        ids: of the images.
        classes: their number.
        extent: number and sizes of the images.
    """

    ids: tuple[str, ...]
    classes: int
    extent: Extent

    def fits(self, size: Size) -> bool:
        """Return whether maps of this size may be of an image, at any scale or turned."""
        sizes = {size for _, size in self.extent.runs}
        return any(is_scaled(size, of) or is_scaled(size[::-1], of) for of in sizes)

    def layout(self, shape: tuple[int, ...]) -> Layout | None:
        """Return the layout of an image's maps (three axes); None where none fits."""
        for counts in ((self.classes,), (self.classes - 1, self.classes + 1)):
            if shape[0] in counts and self.fits((shape[1], shape[2])):
                return CLASSES_FIRST
            if shape[2] in counts and self.fits((shape[0], shape[1])):
                return CLASSES_LAST
        return None


class ReadableMaps(ABC):
    """Maps or labels that are read by indices of images.

    Attributes:
        name: what errors call them: the file or folder.
    """

    name: str

    @property
    @abstractmethod
    def size(self) -> tuple[int, ...]:
        """Images, channels, rows, cols; without channels for labels."""

    @property
    @abstractmethod
    def extent(self) -> Extent:
        """Number and sizes of the images."""

    @property
    @abstractmethod
    def dtype(self) -> str:
        """The type of the values."""

    @property
    def is_labels(self) -> bool:
        """Whether they are class indices (image, row, col), not a value per class."""
        return len(self.size) == LABEL_AXES

    @abstractmethod
    def read(self, indices: Array) -> Array:
        """Read images of one size; called from several threads at once."""


class ExternalMaps(ReadableMaps):
    """Maps as they were given.

    Attributes:
        ids: one per image; None where nothing says which images these are.
        class_names: of the channels, where the files name them.
    """

    ids: tuple[str, ...] | None
    class_names: tuple[str, ...] | None

    @abstractmethod
    def as_stored(self) -> Iterator[Array]:
        """Yield the values of each image with the axes that the files have."""

    @abstractmethod
    def with_layout(self, layout: Layout) -> "ExternalMaps":
        """Return the maps with the axes of an image said."""

    def missing(self, indices: Array) -> Array | None:
        """Return where values of images were never stored, as `read` returns them; None: nowhere.

        Only Zarr arrays are read where they are not stored, as their fill value.
        """
        return None


@dataclass(frozen=True)
class StackedMaps(ExternalMaps):
    """All images in one array.

    Args:
        name: the file.
        array: (image, channel, row, col) of floating point or uint8, (image, row, col) of
            integers, or what `layout` says; on disk until it is read.
        ids: where the file holds any.
        layout: axes of an image.
        class_names: of the channels, where the file names them.

    Raises:
        BadMaps: another shape or type, an empty array, or ids of another number.
    """

    name: str
    array: Any
    ids: tuple[str, ...] | None
    layout: Layout = CLASSES_FIRST
    class_names: tuple[str, ...] | None = None

    def __post_init__(self) -> None:
        """Check what can be seen without reading values."""
        shape, dtype = self.array.shape, self.array.dtype
        if len(shape) == LABEL_AXES:
            object.__setattr__(self, "layout", PIXELS)
        if 0 in shape or not _is_valid(shape[1:], dtype):
            raise BadMaps(
                f"{self.name} is {dtype} of shape {tuple(shape)}; expected (image, class, row,"
                " col) of floating point, or of uint8 scaled by 255, or integer labels (image,"
                " row, col)"
            )
        if self.ids is not None and len(self.ids) != shape[0]:
            raise BadMaps(
                f"{self.name} holds {len(self.ids)} ids for {shape[0]} images; expected one each"
            )

    @property
    def size(self) -> tuple[int, ...]:
        """Images, channels, rows, cols; without channels for labels."""
        shape = tuple(self.array.shape)
        return (shape[0], *_arranged_shape(shape[1:], self.layout, self.array.dtype))

    @property
    def extent(self) -> Extent:
        """Number and sizes of the images."""
        return Extent.uniform(self.size[0], (self.size[-2], self.size[-1]))

    @property
    def dtype(self) -> str:
        """The type of the values on disk."""
        return str(self.array.dtype)

    def read(self, indices: Array) -> Array:
        """Read images."""
        return arranged(np.asarray(self.array[indices]), self.layout)

    def as_stored(self) -> Iterator[Array]:
        """Yield the values of each image with the axes that the array has."""
        return (np.asarray(self.array[np.array([i])])[0] for i in range(self.array.shape[0]))

    def with_layout(self, layout: Layout) -> "StackedMaps":
        """Return the maps with the axes of an image said."""
        return replace(self, layout=layout)

    def missing(self, indices: Array) -> Array | None:
        """Return where values of images were never stored; None: nowhere."""
        missing = getattr(self.array, "missing", lambda _: None)(indices)
        return None if missing is None else arranged(missing, self.layout)


@dataclass(frozen=True)
class ImageSource:
    """Where the maps of one image are.

    Args:
        id: of the image: the file's name, with the slice's number where there are several.
        file: that holds them.
        slice: of a volume; None where the file holds one image without that axis.
    """

    id: str
    file: Path
    slice: int | None


@dataclass(frozen=True)
class MapFiles(ExternalMaps):
    """Maps in one file per image or case.

    Args:
        sources: one per image.
        name: what errors call them.
        key: the array of a file that holds several; None where there is one.
        expected: what is known of the images; None takes classes first.
        said: the axes of an image, where it is known; else the first image tells.

    Raises:
        BadMaps: a first file that holds no maps, or ids that repeat.
    """

    sources: tuple[ImageSource, ...]
    name: str
    key: str | None = None
    expected: ExpectedMaps | None = None
    said: Layout | None = None

    def __post_init__(self) -> None:
        """Check the first file and the ids before any work."""
        self._first  # noqa: B018  # a bad file is refused here
        known: dict[str, Path] = {}
        for source in self.sources:
            if source.id in known:
                raise BadMaps(f"{source.file} and {known[source.id]} are both of {source.id!r}")
            known[source.id] = source.file

    @property
    def ids(self) -> tuple[str, ...]:  # type: ignore[override]
        """One per image."""
        return tuple(source.id for source in self.sources)

    @property
    def size(self) -> tuple[int, ...]:
        """Images, and the channels, rows and cols of the first."""
        return (len(self.sources), *self._first.shape)

    @cached_property
    def class_names(self) -> tuple[str, ...] | None:  # type: ignore[override]
        """Of the channels, where the first file names them."""
        file = self.sources[0].file
        return words_of(file, CLASSES) if suffix_of(file) in ARRAY_SUFFIXES else None

    @cached_property
    def extent(self) -> Extent:
        """Number and sizes of the images, from the files' headers."""
        sizes: dict[Path, Size] = {}
        for source in self.sources:
            if source.file not in sizes:
                sizes[source.file] = self._size_in(source)
        return Extent.of_sizes([sizes[source.file] for source in self.sources])

    def _size_in(self, source: ImageSource) -> Size:
        shape = _shape_in(source, self.key)
        if len(shape) not in (2, 3):
            raise BadMaps(
                f"{source.file} has shape {shape}; expected one as in {self.sources[0].file},"
                f" {self._first.shape}"
            )
        if self._has_layout(shape):
            shape = _arranged_shape(shape, self.layout, self._dtype)
        return shape[-2], shape[-1]

    def _has_layout(self, shape: tuple[int, ...]) -> bool:
        """Return whether an image has the axes of the first one."""
        return (len(shape) == 2) == (self.layout == PIXELS)

    @property
    def dtype(self) -> str:
        """The type of the first image's values."""
        return str(self._dtype)

    @property
    def _dtype(self) -> np.dtype[Any]:
        return self._first.dtype

    @cached_property
    def layout(self) -> Layout:
        """The axes of an image."""
        if self.said is not None:
            return self.said
        (first,) = _read_sources(self.sources[:1], self.key)
        return _layout_of(first.shape, first.dtype, self.expected)

    @cached_property
    def _first(self) -> Array:
        (first,) = _read_sources(self.sources[:1], self.key)
        return arranged(first, self.layout)

    def as_stored(self) -> Iterator[Array]:
        """Yield the values of each image with the axes that its file has."""
        return _read_sources(self.sources, self.key)

    def with_layout(self, layout: Layout) -> "MapFiles":
        """Return the maps with the axes of an image said."""
        return replace(self, said=layout)

    def read(self, indices: Array) -> Array:
        """Read images.

        Raises:
            BadMaps: one with another number of classes or type than the first.
        """
        sources = [self.sources[index] for index in indices]
        first, arrays = self._first, []
        for source, opened in zip(sources, _read_sources(sources, self.key), strict=True):
            array = arranged(opened, self.layout) if self._has_layout(opened.shape) else opened
            if array.shape[:-2] != first.shape[:-2] or array.dtype != first.dtype:
                raise BadMaps(
                    f"{source.file} holds {array.dtype} of shape {array.shape}; expected"
                    f" {first.dtype} of shape {first.shape} as in {self.sources[0].file}"
                )
            arrays.append(array)
        return np.stack(arrays)


def open_external(
    paths: Sequence[Path], expected: ExpectedMaps | None = None, *, key: str | None = None
) -> ExternalMaps:
    """Open what a user names, recognised by its content.

    Args:
        paths: one stack (an array file, or a Zarr array), or files of one image or case each (array
            files; `.png`, `.tif` or `.bmp` of class indices), or folders of such files.
        expected: what is known of the images, by which classes on the last axis are recognised;
            None takes them on the first.
        key: the array of files that hold several.

    Raises:
        BadData: a file that is missing or damaged.
        BadMaps: files that are neither, or do not belong together.
    """
    if len(paths) == 1 and any((paths[0] / name).is_file() for name in ZARR_FILES):
        from members.external.zarr_arrays import open_zarr

        array = open_zarr(paths[0])
        ids, names = (
            None if words is None else tuple(map(str, words)) for words in (array.ids, array.names)
        )
        layout = _stack_layout(array.shape, array.dtype, expected)
        return StackedMaps(str(paths[0]), array, ids, layout, names)
    files = [file for path in paths for file in (_list_files(path) if path.is_dir() else [path])]
    unknown = [file for file in files if suffix_of(file) not in SUFFIXES]
    if unknown:
        raise BadMaps(f"{unknown[0]} is no map file; expected {', '.join(SUFFIXES)} or Zarr")
    if len(paths) == 1 and files == list(paths) and suffix_of(files[0]) in ARRAY_SUFFIXES:
        stack = _open_stack(files[0], expected, key)
        if stack is not None:
            return stack
    sources = tuple(source for file in files for source in _sources(file, key))
    return MapFiles(sources, str(paths[0]), key, expected)


def _open_stack(file: Path, expected: ExpectedMaps | None, key: str | None) -> StackedMaps | None:
    """Return a stack; None where the file holds one image or case."""
    name, ids = key_of(file, key), words_of(file, IDS)
    if suffix_of(file) in NIFTI or (name == "probabilities" and ids is None):
        return None  # nnU-Net's, one case per file
    array = open_values(file, key)
    if ids is None and _is_one_image(file, array, expected):
        return None
    layout = _stack_layout(array.shape, array.dtype, expected)
    return StackedMaps(str(file), array, ids, layout, words_of(file, CLASSES))


def _is_one_image(file: Path, array: Array, expected: ExpectedMaps | None) -> bool:
    """Return whether an array is of one image: its name or its axes say so."""
    shape = array.shape
    if expected is None:
        return len(shape) == LABEL_AXES and array.dtype.kind == "f"
    is_named = image_id(file) in expected.ids
    if len(shape) == MAP_AXES:
        return is_named and shape[0] == 1
    if len(shape) != LABEL_AXES or array.dtype.kind != "f":
        return is_named and len(shape) < LABEL_AXES
    is_stack = expected.classes == 2 and shape[0] == len(expected.ids)  # of the foreground
    return is_named or expected.layout(shape) is not None or not is_stack


def _stack_layout(shape: tuple[int, ...], dtype: Any, expected: ExpectedMaps | None) -> Layout:
    return _layout_of(shape[1:], dtype, expected)


def _layout_of(shape: tuple[int, ...], dtype: Any, expected: ExpectedMaps | None) -> Layout:
    """Return the axes of an image."""
    if len(shape) == 2:
        return PIXELS
    if len(shape) == 3 and _is_label_type(dtype):
        return LABELS_LAST if shape[2] == 1 != shape[0] else LABELS_FIRST
    found = None if expected is None or len(shape) != 3 else expected.layout(shape)
    return found or CLASSES_FIRST


def arranged(values: Array, layout: Layout) -> Array:
    """Return values (..., channel, row, col), or labels (..., row, col)."""
    if layout == CLASSES_LAST:
        return np.moveaxis(values, -1, -3)
    if layout == LABELS_FIRST:
        return values[..., 0, :, :]
    if layout == LABELS_LAST:
        return values[..., 0]
    return values[..., None, :, :] if layout == PIXELS and values.dtype.kind == "f" else values


def _arranged_shape(shape: tuple[int, ...], layout: Layout, dtype: Any) -> tuple[int, ...]:
    """Return the shape of what `arranged` returns."""
    before, sides = shape[:-2], shape[-2:]
    if layout == CLASSES_LAST:
        return (*shape[:-3], shape[-1], *shape[-3:-1])
    if layout == LABELS_FIRST:
        return (*before[:-1], *sides)
    if layout == LABELS_LAST:
        return shape[:-1]
    return (*before, 1, *sides) if layout == PIXELS and dtype.kind == "f" else shape


def _list_files(folder: Path) -> list[Path]:
    check_no_external_links(folder)
    # Programs write more beside their maps, such as nnU-Net's .pkl; an image without maps is found
    # later by its id.
    listed = list_files(folder, (*SUFFIXES, ".gz"), check_rest=False).values()
    files = [file for file in listed if suffix_of(file) in SUFFIXES]
    suffixes = {suffix_of(file) for file in files}
    if len(suffixes) != 1:
        raise BadMaps(
            f"{folder} holds {', '.join(sorted(suffixes)) or 'no map'} files; expected one kind of"
            f" {', '.join(SUFFIXES)}"
        )
    return files


def _sources(file: Path, key: str | None) -> Iterator[ImageSource]:
    """List the images of a file: several, one per slice, in a volume of nnU-Net's.

    nnU-Net (version 2, `--save_probabilities`) writes `CASE.npz` with `probabilities` (class,
    slice, row, col), and labels as `CASE.nii.gz`. A case of one slice is one image, CASE; more are
    CASE-0, CASE-1, ... A first axis of length 1 is that of a batch.
    """
    suffix, name = suffix_of(file), image_id(file)
    shape = shape_of(file, key) if suffix in ARRAY_SUFFIXES else ()
    slices = shape[-3] if len(shape) == MAP_AXES and shape[0] > 1 else None
    if suffix in NIFTI and len(shape) == LABEL_AXES:
        slices = shape[0]
    if slices == 0:
        raise BadMaps(f"{file} has shape {shape}, without a slice; expected one at least")
    if slices is None or slices == 1:
        yield ImageSource(name, file, None if slices is None else 0)
    else:
        yield from (ImageSource(f"{name}-{index}", file, index) for index in range(slices))


def _read_sources(sources: Sequence[ImageSource], key: str | None) -> Iterator[Array]:
    """Read images; neighbours in one file open it once."""
    file, opened = None, np.empty(0)
    for source in sources:
        if source.file != file:
            file, opened = source.file, _open_file(source.file, key)
        yield _slice_of(opened, source)


def _slice_of(opened: Array, source: ImageSource) -> Array:
    if source.slice is not None:
        return np.asarray(opened[..., source.slice, :, :])
    return np.asarray(opened[0] if opened.ndim == MAP_AXES else opened)


def _shape_in(source: ImageSource, key: str | None) -> tuple[int, ...]:
    """Return the shape of an image, from the file's header where it has one."""
    if suffix_of(source.file) not in ARRAY_SUFFIXES:
        return image_size(source.file)
    shape = shape_of(source.file, key)
    if source.slice is not None:
        return (*shape[:-3], *shape[-2:])
    return shape[1:] if len(shape) == MAP_AXES else shape


def _open_file(file: Path, key: str | None) -> Array:
    if suffix_of(file) not in ARRAY_SUFFIXES:
        try:
            return read_labels(file).astype(np.int32)
        except BadLabels as error:
            raise BadMaps(str(error)) from None
    opened = open_values(file, key)
    item = opened.shape[1:] if opened.ndim == MAP_AXES else opened.shape
    is_volume = suffix_of(file) in NIFTI and opened.dtype.kind in "iu"
    if not _is_valid(item[1:] if is_volume and len(item) == LABEL_AXES else item, opened.dtype):
        raise BadMaps(
            f"{file} is {opened.dtype} of shape {opened.shape}; expected (class, row, col) of"
            " floating point, or of uint8 scaled by 255, or integer labels (row, col)"
        )
    return opened


def _is_valid(shape: tuple[int, ...], dtype: np.dtype[Any]) -> bool:
    """Return whether an image's shape and type may be those of maps or labels."""
    if _is_label_type(dtype):
        return len(shape) == 2 or (len(shape) == 3 and 1 in (shape[0], shape[2]))
    return len(shape) in (2, 3) and (dtype.kind == "f" or dtype == np.uint8)


def _is_label_type(dtype: np.dtype[Any]) -> bool:
    """Return whether values are labels, whatever their shape; uint8 may be either."""
    return dtype.kind in "iu" and dtype != np.uint8
