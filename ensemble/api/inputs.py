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

from evaluation.core.classes import Classes
from evaluation.core.errors import BadData, BadLabels, BadMaps, BadSpec, EnsError, shorten
from evaluation.core.files import atomic_file, create_stack, open_array
from evaluation.core.label_options import LabelOptions
from evaluation.core.ragged import Extent, Stack, empty_stack
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


@dataclass(frozen=True)
class MappedLabels:
    """Label maps whose stored values become class indices as they are read.

    Args:
        name: what errors call them.
        labels: stored values, (image, row, col).
        classes: with the stored value of each class.
        complete: whether every pixel must have a class, as in predictions.
    """

    name: str
    labels: Array
    classes: Classes
    complete: bool

    @property
    def shape(self) -> tuple[int, ...]:
        """(image, row, col)."""
        return self.labels.shape

    @property
    def dtype(self) -> np.dtype[Any]:
        """Type of the class indices; of the stored values if those are no integers."""
        return np.dtype(np.uint8) if self.labels.dtype.kind in "iu" else self.labels.dtype

    def __len__(self) -> int:
        """Return the number of images."""
        return len(self.labels)

    def __getitem__(self, block: Any) -> Array:
        """Return class indices.

        Raises:
            BadLabels: a value that stands for no class; names the labels.
        """
        try:
            return self.classes.indices(np.asarray(self.labels[block]), complete=self.complete)
        except BadLabels as error:
            raise BadLabels(f"{self.name} {error}") from None


def open_labels(
    source: ArrayLike, name: str, classes: Classes | None = None, *, complete: bool = False
) -> OpenedArrays:
    """Open label maps, (image, row, col), or one (row, col) per image.

    Args:
        source: an array, a list, a file, or a folder whose PNG, TIFF or BMP files hold one value
            per pixel (grey or with a palette).
        name: what errors call it.
        classes: with the stored value of each class; by default values are class indices.
        complete: whether every pixel must have a class, as in predictions.

    Raises:
        BadLabels: something else.
        BadData: a file or folder that cannot be read.
    """
    opened = _open(source, name, BadLabels, _read_mask)
    if classes is None or classes.stored_as_indices:
        return opened
    if not opened.one_size:
        mapped = [MappedLabels(opened.name, each, classes, complete)[:] for each in opened.array]
        return OpenedArrays(opened.name, mapped, opened.ids)
    if opened.array.ndim != 3 or opened.array.dtype.kind not in "iu":
        return opened  # refused by whoever counts, or probability maps
    array = MappedLabels(opened.name, opened.array, classes, complete)
    return OpenedArrays(opened.name, array, opened.ids)


def stored_values(opened: OpenedArrays) -> set[int]:
    """Return the values that occur in label maps of integers."""
    values: set[int] = set()
    for image in opened.array:
        values |= set(np.unique(image).tolist())
    return values


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


def classes_of_maps(labels: LabelOptions, count: int, target: ArrayLike | None = None) -> Classes:
    """Return the classes of probability maps.

    Args:
        labels: what is said about them.
        count: number of classes of the maps.
        target: masks that go with the maps, where there are any.

    Raises:
        BadSpec: another number of classes, or an ignored class that is none of them.
        BadLabels: values of masks that stand for no class.
    """
    if labels.num_classes not in (None, count):
        raise BadSpec(f"{labels.num_classes} classes are named; the maps have {count}")
    if labels.num_classes is None:
        labels = labels.updated(LabelOptions(count))
    if not labels.needs_values or target is None:
        return labels.resolve(())
    return labels.resolve(stored_values(open_labels(target, "fit_target")))


@contextmanager
def new_stack(
    out: Path | None, dtype: Any, extent: Extent, channels: tuple[int, ...] = ()
) -> Iterator[Stack]:
    """Yield images to fill: in memory, or in a `.npy` that appears once it is complete.

    Raises:
        BadSpec: a file for images of several sizes.
    """
    if out is None:
        yield empty_stack(extent, dtype, channels)
        return
    if extent.one_size is None:
        raise BadSpec(f"{out} takes images of one size; these have {extent}: leave `out` out")
    with atomic_file(out) as partial:
        array = create_stack(partial, dtype=dtype, extent=extent, channels=channels)
        yield array
        array.flush()


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
