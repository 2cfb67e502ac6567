"""Open external maps: stacks, one file per image, nnU-Net's volumes, Zarr arrays, label maps."""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from evaluation.core.array_headers import header_of
from evaluation.core.errors import BadLabels, BadMaps
from evaluation.core.files import array_names, check_no_external_links, open_array
from evaluation.core.ragged import Extent, Size
from evaluation.core.types import Array
from members.data.image_files import MASK_SUFFIXES, id_of, list_files, read_labels
from members.data.npz_files import as_names

ARRAY_SUFFIXES = (".npy", ".npz")
SUFFIXES = tuple(dict.fromkeys((*ARRAY_SUFFIXES, *MASK_SUFFIXES)))
ZARR_FILES = ("zarr.json", ".zarray")
IDS = "ids"
LABEL_AXES, MAP_AXES = 3, 4
"""Of a stack; a file of one image has one fewer, and a volume as many as a stack of maps."""


class ExternalMaps(ABC):
    """Maps as they were given, read by indices of images.

    Attributes:
        name: what errors call them: the file or folder.
        ids: one per image; None where nothing says which images these are.
    """

    name: str
    ids: tuple[str, ...] | None

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
        """The type of the values on disk."""

    @property
    def is_labels(self) -> bool:
        """Whether they are class indices (image, row, col), not a value per class."""
        return len(self.size) == LABEL_AXES

    @abstractmethod
    def read(self, indices: Array) -> Array:
        """Read images of one size as they were given; called from several threads at once."""

    def missing(self, indices: Array) -> Array | None:
        """Return where values of images were never stored, as `read` returns them; None: nowhere.

        Only Zarr arrays are read where they are not stored, as their fill value.
        """
        return None


@dataclass(frozen=True)
class StackedMaps(ExternalMaps):
    """All images in one array: `.npy`, `.npz` or Zarr.

    Args:
        name: the file.
        array: (image, channel, row, col) of floating point or uint8, or (image, row, col) of
            integers; on disk until it is read.
        ids: where the file holds any.

    Raises:
        BadMaps: another shape or type, an empty array, or ids of another number.
    """

    name: str
    array: Any
    ids: tuple[str, ...] | None

    def __post_init__(self) -> None:
        """Check what can be seen without reading values."""
        shape, dtype = self.array.shape, self.array.dtype
        if 0 in shape or not _is_valid(shape, dtype, LABEL_AXES, (MAP_AXES,)):
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
        return tuple(self.array.shape)

    @property
    def extent(self) -> Extent:
        """Number and sizes of the images."""
        return Extent.uniform(self.array.shape[0], self.array.shape[-2:])

    @property
    def dtype(self) -> str:
        """The type of the values on disk."""
        return str(self.array.dtype)

    def read(self, indices: Array) -> Array:
        """Read images."""
        return np.asarray(self.array[indices])

    def missing(self, indices: Array) -> Array | None:
        """Return where values of images were never stored; None: nowhere."""
        missing: Array | None = getattr(self.array, "missing", lambda _: None)(indices)
        return missing


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

    Raises:
        BadMaps: a first file that holds no maps, or ids that repeat.
    """

    sources: tuple[ImageSource, ...]
    name: str

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
    def extent(self) -> Extent:
        """Number and sizes of the images, from the files' headers."""
        sizes: dict[Path, Size] = {}
        for source in self.sources:
            if source.file not in sizes:
                sizes[source.file] = _size_of(source.file)
        return Extent.of_sizes([sizes[source.file] for source in self.sources])

    @property
    def dtype(self) -> str:
        """The type of the first image's values."""
        return str(self._first.dtype)

    @cached_property
    def _first(self) -> Array:
        return next(_read_sources(self.sources[:1]))

    def read(self, indices: Array) -> Array:
        """Read images.

        Raises:
            BadMaps: one with another number of classes or type than the first.
        """
        sources = [self.sources[index] for index in indices]
        arrays, first = list(_read_sources(sources)), self._first
        for source, array in zip(sources, arrays, strict=True):
            if array.shape[:-2] != first.shape[:-2] or array.dtype != first.dtype:
                raise BadMaps(
                    f"{source.file} holds {array.dtype} of shape {array.shape}; expected"
                    f" {first.dtype} of shape {first.shape} as in {self.sources[0].file}"
                )
        return np.stack(arrays)


def open_external(paths: Sequence[Path]) -> ExternalMaps:
    """Open what a user names, recognised by its content.

    Args:
        paths: one stack (`.npy`, `.npz`, a Zarr array), or files of one image or case each
            (`.npy`, `.npz`; `.png`, `.tif` or `.bmp` of class indices), or folders of such files.

    Raises:
        BadData: a file that is missing or damaged.
        BadMaps: files that are neither, or do not belong together.
    """
    if len(paths) == 1 and any((paths[0] / name).is_file() for name in ZARR_FILES):
        from members.external.zarr_arrays import open_zarr

        array = open_zarr(paths[0])
        ids = None if array.ids is None else tuple(map(str, array.ids))
        return StackedMaps(str(paths[0]), array, ids)
    files = [file for path in paths for file in (_list_files(path) if path.is_dir() else [path])]
    unknown = [file for file in files if _suffix(file) not in SUFFIXES]
    if unknown:
        raise BadMaps(f"{unknown[0]} is no map file; expected {', '.join(SUFFIXES)} or Zarr")
    if len(paths) == 1 and files == list(paths) and _suffix(files[0]) in ARRAY_SUFFIXES:
        stack = _open_stack(files[0])
        if stack is not None:
            return stack
    return MapFiles(tuple(s for file in files for s in _sources(file)), str(paths[0]))


def _open_stack(file: Path) -> StackedMaps | None:
    """Return a stack; None where the file holds one image or case."""
    if _suffix(file) == ".npy":
        array = open_array(file)
        is_one_image = array.ndim == LABEL_AXES and array.dtype.kind == "f"
        return None if is_one_image else StackedMaps(str(file), array, None)
    names = array_names(file)
    values = [name for name in names if name != IDS]
    if values == ["probabilities"] and IDS not in names:
        return None  # nnU-Net's, one case per file
    ids = open_array(file, IDS) if IDS in names else None
    if len(values) != 1:
        raise BadMaps(
            f"{file} holds {', '.join(names) or 'nothing'}; expected one array, and ids if known"
        )
    array = open_array(file, values[0])
    names_of = None if ids is None else tuple(as_names(f"{file}: ids", ids, len(ids)).tolist())
    return StackedMaps(str(file), array, names_of)


def _list_files(folder: Path) -> list[Path]:
    check_no_external_links(folder)
    # Programs write more beside their maps, such as nnU-Net's .pkl; an image without maps is found
    # later by its id.
    files = list(list_files(folder, SUFFIXES, check_rest=False).values())
    suffixes = {_suffix(file) for file in files}
    if len(suffixes) != 1:
        raise BadMaps(
            f"{folder} holds {', '.join(sorted(suffixes)) or 'no map'} files; expected one kind of"
            f" {', '.join(SUFFIXES)}"
        )
    return files


def _sources(file: Path) -> Iterator[ImageSource]:
    """List the images of a file: several, one per slice, in a volume of nnU-Net's.

    nnU-Net (version 2, `--save_probabilities`) writes `CASE.npz` with `probabilities` (class,
    slice, row, col). A case of one slice is one image, CASE; more are CASE-0, CASE-1, ...
    """
    shape: tuple[int, ...] = ()
    if _suffix(file) == ".npz":
        names = array_names(file)
        if len(names) != 1:
            raise BadMaps(
                f"{file} holds {', '.join(names) or 'nothing'}; expected one array per file"
            )
        shape = header_of(file, names[0]).shape
    if len(shape) != MAP_AXES:
        yield ImageSource(id_of(file), file, None)
    elif shape[1] == 1:
        yield ImageSource(id_of(file), file, 0)
    else:
        yield from (ImageSource(f"{id_of(file)}-{index}", file, index) for index in range(shape[1]))


def _read_sources(sources: Sequence[ImageSource]) -> Iterator[Array]:
    """Read images; neighbours in one file open it once."""
    file, opened = None, np.empty(0)
    for source in sources:
        if source.file != file:
            file, opened = source.file, _open_file(source.file)
        yield np.asarray(opened if source.slice is None else opened[:, source.slice])


def _size_of(file: Path) -> Size:
    """Return rows and columns of a file's images."""
    rows, cols = _open_file(file).shape[-2:]
    return int(rows), int(cols)


def _open_file(file: Path) -> Array:
    if _suffix(file) not in ARRAY_SUFFIXES:
        try:
            return read_labels(file).astype(np.int32)
        except BadLabels as error:
            raise BadMaps(str(error)) from None
    opened = open_array(file)
    if not _is_valid(opened.shape, opened.dtype, LABEL_AXES - 1, (MAP_AXES - 1, MAP_AXES)):
        raise BadMaps(
            f"{file} is {opened.dtype} of shape {opened.shape}; expected (class, row, col) of"
            " floating point, or of uint8 scaled by 255, or integer labels (row, col)"
        )
    return opened


def _suffix(file: Path) -> str:
    return file.suffix.lower()


def _is_valid(
    shape: tuple[int, ...], dtype: np.dtype[Any], label_axes: int, map_axes: tuple[int, ...]
) -> bool:
    is_maps = len(shape) in map_axes and (dtype.kind == "f" or dtype == np.uint8)
    return is_maps or (len(shape) == label_axes and dtype.kind in "iu")
