"""Inputs of the Python API: arrays, memory maps, lists of arrays, files and folders alike.

A folder holds one file per image; files are read in the order of their names.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from evaluation.core.errors import BadData, BadLabels, BadMaps, BadSpec, EnsError, shorten
from evaluation.core.files import atomic_file, create_npy, open_array
from evaluation.core.types import Array

if TYPE_CHECKING:
    from members.maps import MapReader

    ArrayLike: TypeAlias = Array | Sequence[Array] | str | PathLike[str]
    MapsLike: TypeAlias = ArrayLike | MapReader
    MembersLike: TypeAlias = Sequence[MapsLike] | Array
else:  # what is given is checked here, with our own errors
    ArrayLike = MapsLike = MembersLike = object

ARRAY_SUFFIXES = (".npy", ".npz")


@dataclass(frozen=True)
class OpenedArrays:
    """Arrays of the images of a set.

    Args:
        name: what errors call them.
        array: with the images along the first axis; a list where their sizes differ.
        ids: the names of the files in a folder; None for anything else.
    """

    name: str
    array: Any
    ids: tuple[str, ...] | None = None

    @property
    def one_size(self) -> bool:
        """Whether all images have the same size."""
        return not isinstance(self.array, list)

    def stacked(self) -> Array:
        """Return one array.

        Raises:
            BadData: images of several sizes.
        """
        if self.one_size:
            array: Array = self.array
            return array
        shapes = list(dict.fromkeys(array.shape for array in self.array))
        raise BadData(
            f"{self.name} holds images of {len(shapes)} shapes ({shapes[0]}, {shapes[1]}, ...);"
            " expected one; pass the images of each size on their own"
        )


def open_maps(source: MapsLike, name: str) -> "MapReader":
    """Return a reader of one member's probability maps; values are not checked yet.

    Raises:
        BadMaps: not (image, class, row, col), or no probabilities by their type.
        BadData: a file or folder that cannot be read.
    """
    from members.maps import ArrayMaps, MapReader

    if isinstance(source, MapReader):
        return source
    opened = _open(source, name, BadMaps, _no_image_file)
    return ArrayMaps(opened.name, opened.stacked())


def open_labels(source: ArrayLike, name: str) -> OpenedArrays:
    """Open label maps, (image, row, col), or one (row, col) per image.

    In a folder, PNG, TIFF and BMP files hold class indices (grey or with a palette).

    Raises:
        BadLabels: something else.
        BadData: a file or folder that cannot be read.
    """
    return _open(source, name, BadLabels, _read_mask)


def open_images(source: ArrayLike, name: str) -> Array:
    """Open images, (image, row, col), or with 1 or 3 channels second or last.

    Returns:
        (image, channel, row, col).

    Raises:
        BadData: something else.
    """
    opened = _open(source, name, BadData, _read_image)
    array = opened.stacked()
    if array.ndim == 3:
        return array[:, None]
    if array.ndim != 4:
        raise BadData(
            f"{opened.name} has shape {array.shape}; expected (image, row, col) or 4 axes"
        )
    if array.shape[1] not in (1, 3) and array.shape[3] in (1, 3):
        return np.moveaxis(array, 3, 1)
    return array


@contextmanager
def new_array(out: Path | None, dtype: Any, shape: tuple[int, ...]) -> Iterator[Array]:
    """Yield an array to fill: in memory, or in a `.npy` that appears once it is complete."""
    if out is None:
        yield np.empty(shape, dtype)
        return
    with atomic_file(out) as partial:
        array = create_npy(partial, dtype=dtype, shape=shape)
        yield array
        array.flush()


def check_ignored_class(ignore: int | None, classes: int) -> None:
    """Check that the ignored class is one of the classes.

    Raises:
        BadSpec: where it is not.
    """
    if ignore is not None and not 0 <= ignore < classes:
        raise BadSpec(f"`ignore` {ignore} with {classes} classes; expected 0 to {classes - 1}")


def check_same_images(first: OpenedArrays, second: OpenedArrays) -> None:
    """Check that two folders hold files of the same names.

    Raises:
        BadData: a name that only one of them has.
    """
    if first.ids is None or second.ids is None or first.ids == second.ids:
        return
    only = sorted(set(first.ids) ^ set(second.ids))
    raise BadData(
        f"{first.name} and {second.name} hold files of different names (first: {shorten(only[0])});"
        " expected one file per image in both, with equal names"
    )


def _open(
    source: Any, name: str, error: type[EnsError], read_image_file: Callable[[Path], Array]
) -> OpenedArrays:
    if isinstance(source, str | PathLike):
        path = Path(source)
        if path.is_dir():
            return _open_folder(path, error, read_image_file)
        return OpenedArrays(str(path), open_array(path))
    if isinstance(source, np.ndarray):
        return OpenedArrays(name, source)
    if not isinstance(source, list | tuple):
        raise error(
            f"{name} is of type {type(source).__name__}; expected an array, a list of arrays, or"
            " the path of a file or folder"
        )
    return OpenedArrays(name, _together(name, [np.asarray(item) for item in source], error))


def _open_folder(
    folder: Path, error: type[EnsError], read_image_file: Callable[[Path], Array]
) -> OpenedArrays:
    from members.data.image_files import IMAGE_SUFFIXES, list_files

    suffixes = tuple(dict.fromkeys((*ARRAY_SUFFIXES, *IMAGE_SUFFIXES)))
    files = list_files(folder, suffixes)
    if not files:
        raise BadData(f"{folder} holds no {', '.join(suffixes)} file; expected one per image")
    arrays = [
        np.array(open_array(file))
        if file.suffix.lower() in ARRAY_SUFFIXES
        else read_image_file(file)
        for file in files.values()
    ]
    return OpenedArrays(str(folder), _together(str(folder), arrays, error), tuple(files))


def _together(name: str, arrays: list[Array], error: type[EnsError]) -> Any:
    """Stack arrays of one shape; arrays of several shapes stay a list."""
    if not arrays:
        raise error(f"{name} is empty; expected one array per image")
    if len({array.ndim for array in arrays}) > 1 or len({array.dtype for array in arrays}) > 1:
        raise error(f"{name} holds arrays of different types or numbers of axes; expected one kind")
    if len({array.shape for array in arrays}) > 1:
        return arrays
    return np.stack(arrays)


def _read_image(file: Path) -> Array:
    from members.data.image_files import read_image_uint8

    return read_image_uint8(file)


def _read_mask(file: Path) -> Array:
    from members.data.image_files import read_mask

    return read_mask(file)


def _no_image_file(file: Path) -> Array:
    raise BadMaps(f"{file} is an image; expected probability maps in .npy or .npz files")
