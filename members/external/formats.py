"""Any form that maps come in: stacks, one file an image, nnU-Net's volumes, Zarr, label maps.

Maps with one file an image or case; the names are the ids.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np

from evaluation.core.array_headers import header_of
from evaluation.core.errors import BadMaps
from evaluation.core.files import array_names, check_no_external_links, open_array
from evaluation.core.types import Array
from members.data.image_folder import open_image
from members.data.npz_files import as_names
from members.external.zarr_arrays import is_zarr, open_zarr

SUFFIXES = (".npy", ".npz", ".png")
FILES_LABEL_AXES, FILES_MAP_AXES, VOLUME_AXES = 2, 3, 4
PNG_MODES = ("L", "P", "1", "I;16", "I")


@dataclass(frozen=True)
class Place:
    """Where one image's maps lie.

    Args:
        id: of the image: the file's name, with the slice's number where there are several.
        file: that holds them.
        slice: of a volume; None where the file holds one image without that axis.
    """

    id: str
    file: Path
    slice: int | None


@dataclass(frozen=True)
class Files:
    """Maps of many files.

    Args:
        places: one an image.
        name: what errors call them.
    """

    places: tuple[Place, ...]
    name: str

    def __post_init__(self) -> None:
        """Refuse a first file that is no map, and ids that stand twice."""
        self._first  # noqa: B018  # opened here, so that a bad one is refused before work
        known: dict[str, Path] = {}
        for place in self.places:
            if place.id in known:
                raise BadMaps(f"{place.file} and {known[place.id]} are both of {place.id!r}")
            known[place.id] = place.file

    @property
    def ids(self) -> tuple[str, ...]:
        """One an image."""
        return tuple(place.id for place in self.places)

    @property
    def labels(self) -> bool:
        """Tell whether they are class indices."""
        return self._first.ndim == FILES_LABEL_AXES

    @property
    def dtype(self) -> str:
        """The type of the first image's values."""
        return str(self._first.dtype)

    @property
    def size(self) -> tuple[int, ...]:
        """Images, and the channels, rows and cols of the first."""
        return (len(self.places), *self._first.shape)

    @cached_property
    def _first(self) -> Array:
        return next(_read(self.places[:1]))

    def read(self, places: Array) -> Array:
        """Read some images.

        Raises:
            BadMaps: one of another size or type than the first.
        """
        chosen = [self.places[place] for place in places]
        found = list(_read(chosen))
        first = self._first
        for place, values in zip(chosen, found, strict=True):
            if values.shape != first.shape or values.dtype != first.dtype:
                raise BadMaps(
                    f"{place.file} holds {values.dtype} of shape {values.shape}; expected"
                    f" {first.dtype} of shape {first.shape} as in {self.places[0].file}"
                )
        return np.stack(found)


def image_files(files: Iterable[Path]) -> Iterator[Place]:
    """List the images of files; nnU-Net's `.npz` may hold several, one a slice.

    nnU-Net (version 2, `--save_probabilities`) writes `CASE.npz` with `probabilities` (class,
    slice, row, col). A case of one slice is one image, CASE; more are CASE-0, CASE-1, ...

    Raises:
        BadData: a file that is missing or damaged.
    """
    for file in files:
        shape = _shape(file) if file.suffix == ".npz" else ()
        if len(shape) != VOLUME_AXES:
            yield Place(file.stem, file, None)
        elif shape[1] == 1:
            yield Place(file.stem, file, 0)
        else:
            yield from (Place(f"{file.stem}-{index}", file, index) for index in range(shape[1]))


def _read(places: Sequence[Place]) -> Iterator[Array]:
    """Read images; neighbours in one file open it once."""
    file, opened = None, np.empty(0)
    for place in places:
        if place.file != file:
            file, opened = place.file, _opened(place.file)
        yield np.asarray(opened if place.slice is None else opened[:, place.slice])


def _opened(file: Path) -> Array:
    if file.suffix == ".png":
        image = open_image(file)
        if image.mode not in PNG_MODES:
            raise BadMaps(f"{file} is {image.mode}; expected one channel of class indices")
        return np.asarray(image).astype(np.int32)
    opened = open_array(file)
    axes, kind = opened.ndim, opened.dtype.kind
    maps = axes in (FILES_MAP_AXES, VOLUME_AXES) and (kind == "f" or opened.dtype == np.uint8)
    if not maps and not (axes == FILES_LABEL_AXES and kind in "iu"):
        raise BadMaps(
            f"{file} is {opened.dtype} of shape {opened.shape}; expected (class, row, col) of"
            " floating point, or of uint8 scaled by 255, or integer labels (row, col)"
        )
    return opened


def _shape(file: Path) -> tuple[int, ...]:
    """Return the shape of the one array of a `.npz` from its head, without unpacking it."""
    names = array_names(file)
    if len(names) != 1:
        raise BadMaps(f"{file} holds {', '.join(names) or 'nothing'}; expected one array a file")
    return header_of(file, names[0]).shape


IDS = "ids"
LABEL_AXES, MAP_AXES = 3, 4


@runtime_checkable
class ExternalMaps(Protocol):
    """Maps as they were given, read by places of images."""

    @property
    def name(self) -> str:
        """What errors call them: the file or folder."""
        ...

    @property
    def ids(self) -> tuple[str, ...] | None:
        """One an image; None where nothing says which images these are."""
        ...

    @property
    def labels(self) -> bool:
        """Tell whether they are class indices (image, row, col), not values a class."""
        ...

    @property
    def dtype(self) -> str:
        """The type of the values on disk."""
        ...

    @property
    def size(self) -> tuple[int, ...]:
        """Images, channels, rows, cols; without channels for labels."""
        ...

    def read(self, places: Array) -> Array:
        """Read some images as they were given; called from several threads at once."""
        ...


@dataclass(frozen=True)
class Stack:
    """All images in one array, `.npy`, `.npz` or Zarr.

    Args:
        name: the file.
        array: (image, channel, row, col) of floating point or uint8, or (image, row, col) of
            integers; on disk until it is read.
        ids: where the file holds any.

    Raises:
        BadMaps: another shape or type, nothing inside, or ids of another number.
    """

    name: str
    array: Any
    ids: tuple[str, ...] | None

    def __post_init__(self) -> None:
        """Check what can be seen without reading values."""
        shape, dtype = self.array.shape, self.array.dtype
        labels = len(shape) == LABEL_AXES and dtype.kind in "iu"
        maps = len(shape) == MAP_AXES and (dtype.kind == "f" or dtype == np.uint8)
        if 0 in shape or not (labels or maps):
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
    def labels(self) -> bool:
        """Tell whether they are class indices."""
        return len(self.array.shape) == LABEL_AXES

    @property
    def dtype(self) -> str:
        """The type of the values on disk."""
        return str(self.array.dtype)

    @property
    def size(self) -> tuple[int, ...]:
        """Images, channels, rows, cols; without channels for labels."""
        return tuple(self.array.shape)

    def read(self, places: Array) -> Array:
        """Read some images."""
        return np.asarray(self.array[places])


def open_external(paths: Sequence[Path]) -> ExternalMaps:
    """Open what a user names, recognised by its content.

    Args:
        paths: one stack (`.npy`, `.npz`, a Zarr array), or files of one image or case each
            (`.npy`, `.npz`, `.png`), or folders of such files.

    Raises:
        BadData: a file that is missing or damaged.
        BadMaps: files that are neither, or do not belong together.
    """
    if len(paths) == 1 and is_zarr(paths[0]):
        array = open_zarr(paths[0])
        ids = None if array.ids is None else tuple(map(str, array.ids))
        return Stack(str(paths[0]), array, ids)
    files = [file for path in paths for file in (_listed(path) if path.is_dir() else [path])]
    strange = [file for file in files if file.suffix not in SUFFIXES]
    if strange:
        raise BadMaps(f"{strange[0]} is no map file; expected {', '.join(SUFFIXES)} or Zarr")
    if len(paths) == 1 and files == list(paths) and files[0].suffix != ".png":
        stack = _stack(files[0])
        if stack is not None:
            return stack
    return Files(tuple(image_files(files)), str(paths[0]))


def _stack(file: Path) -> Stack | None:
    """Return a stack; None where the file holds one image or case."""
    if file.suffix == ".npy":
        array = open_array(file)
        one = array.ndim == LABEL_AXES and array.dtype.kind == "f"
        return None if one else Stack(str(file), array, None)
    names = array_names(file)
    values = [name for name in names if name != IDS]
    if values == ["probabilities"] and IDS not in names:
        return None  # nnU-Net's, one case a file
    ids = open_array(file, IDS) if IDS in names else None
    if len(values) != 1:
        raise BadMaps(
            f"{file} holds {', '.join(names) or 'nothing'}; expected one array, and ids if known"
        )
    array = open_array(file, values[0])
    told = None if ids is None else tuple(as_names(f"{file}: ids", ids, len(ids)).tolist())
    return Stack(str(file), array, told)


def _listed(folder: Path) -> list[Path]:
    check_no_external_links(folder)
    found = sorted(file for file in folder.iterdir() if file.suffix in SUFFIXES)
    kinds = {file.suffix for file in found}
    if len(kinds) != 1:
        raise BadMaps(
            f"{folder} holds {', '.join(sorted(kinds)) or 'no map'} files; expected one kind of"
            f" {', '.join(SUFFIXES)}"
        )
    return found
