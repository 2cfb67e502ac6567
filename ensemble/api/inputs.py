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

from evaluation.core.blocks import map_blocks
from evaluation.core.classes import Classes
from evaluation.core.errors import BadData, BadLabels, BadMaps, BadSpec, EnsError, shorten
from evaluation.core.files import atomic_file, create_stack, open_array
from evaluation.core.label_options import LabelOptions
from evaluation.core.ragged import (
    Extent,
    Ragged,
    Stack,
    empty_stack,
    extent_of,
    map_stack,
    stack_images,
)
from evaluation.core.types import Array

if TYPE_CHECKING:
    from members.maps import MapReader

    ArrayLike: TypeAlias = Array | Sequence[Array] | str | PathLike[str]
    MapsLike: TypeAlias = ArrayLike | MapReader
    MembersLike: TypeAlias = Sequence[MapsLike] | Array
else:  # what is given is checked here, with our own errors
    ArrayLike = MapsLike = MembersLike = object

ARRAY_SUFFIXES = (".npy", ".npz")
CHANNELS = (1, 3)
VALUE_BYTES = 4
"""Per pixel of label maps whose values are counted."""


@dataclass(frozen=True)
class OpenedArrays:
    """Arrays of the images of a set.

    Args:
        name: what errors call them.
        array: with the images along the first axis; `Ragged` where their sizes differ.
        ids: the names of the files in a folder; None for anything else.
    """

    name: str
    array: Stack
    ids: tuple[str, ...] | None = None


def open_maps(
    source: MapsLike, name: str, *, classes: int | None = None, logits: bool = False
) -> "MapReader":
    """Return a reader of one member's probability maps; not all values are checked yet.

    The classes may lie on the last axis, and one channel is the foreground's; see
    `members.external.plain_maps`.

    Args:
        source: an array, a list, a file, a folder (read file by file), or a reader.
        name: what errors call it.
        classes: their number, where it is known.
        logits: the values are logits, which the softmax turns into probabilities.

    Raises:
        BadMaps: axes that could be read in two ways, or no probabilities by their type.
        BadData: a file or folder that cannot be read.
    """
    from members.external.plain_maps import arrange_array, arrange_list, open_plain_maps
    from members.external.stacks import Softmaxed
    from members.maps import ArrayMaps, MapReader

    if isinstance(source, MapReader):
        return source
    ids = None
    if isinstance(source, str | PathLike):
        name = str(Path(source))
        array, ids = open_plain_maps(Path(source), classes=classes, logits=logits)
    elif isinstance(source, np.ndarray | Ragged):
        array = arrange_array(source, name, classes=classes, logits=logits)
    else:
        items = [np.asarray(item) for item in _items(source, name, BadMaps)]
        array = arrange_list(items, name, classes=classes, logits=logits)
    return ArrayMaps(name, Softmaxed(name, array) if logits else array, ids=ids)


def is_floating(source: ArrayLike) -> bool:
    """Return whether what is given holds floating point: maps, where labels may be given too."""
    if isinstance(source, str | PathLike):
        from members.data.image_files import list_files
        from members.external.array_files import ARRAY_SUFFIXES, open_values, suffix_of
        from members.external.formats import ZARR_FILES, open_external

        path = Path(source)
        files = [path]
        if any((path / name).is_file() for name in ZARR_FILES):
            return np.dtype(open_external([path]).dtype).kind == "f"
        if path.is_dir():
            files = list(list_files(path, ARRAY_SUFFIXES, check_rest=False).values())
        is_array = files and suffix_of(files[0]) in ARRAY_SUFFIXES
        return bool(is_array and open_values(files[0]).dtype.kind == "f")
    if isinstance(source, list | tuple) and source:
        source = np.asarray(source[0])
    return bool(getattr(source, "dtype", np.dtype(np.uint8)).kind == "f")


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
    from members.external.stacks import LabelView

    opened = _open(source, name, BadLabels, np.asarray, _read_mask)
    if classes is None or classes.stored_as_indices:
        return opened
    if opened.array.ndim != 3 or opened.array.dtype.kind not in "iu":
        return opened  # refused by whoever counts, or probability maps
    known = classes

    def to_indices(stored: Array) -> Array:
        try:
            return known.indices(stored, complete=complete)
        except BadLabels as error:
            raise BadLabels(f"{opened.name} {error}") from None

    return OpenedArrays(opened.name, LabelView(opened.array, to_indices), opened.ids)


def stored_values(opened: OpenedArrays) -> list[set[int]]:
    """Return the values that occur in each label map; maps are read block by block."""
    array = opened.array

    def values(block: slice) -> list[set[int]]:
        return [_values_of(image) for image in np.asarray(array[block])]

    images = extent_of(array) if array.ndim > 2 else len(array)
    return [found for part in map_blocks(values, images, pixel_bytes=VALUE_BYTES) for found in part]


def _values_of(image: Array) -> set[int]:
    from PIL import Image

    if image.dtype == np.uint8 and image.ndim == 2 and image.size:  # 4 times as fast as `unique`
        counts = Image.fromarray(image).histogram()
        return {value for value, count in enumerate(counts) if count}
    return set(np.unique(image).tolist())


def open_images(source: ArrayLike, name: str, maps: "MapReader") -> Stack:
    """Open the images of maps, (image, row, col), or with 1 or 3 channels second or last.

    Returns:
        (image, channel, row, col); `Ragged` where sizes differ.

    Raises:
        BadData: something else, or files of other names than the maps'.
    """
    opened = same_images(maps, _open(source, name, BadData, _channels_first, _read_image))
    array = opened.array
    if array.ndim == 3:
        return map_stack(lambda images: images[:, None], array)
    if array.ndim != 4:
        raise BadData(
            f"{opened.name} has shape {array.shape}; expected (image, row, col) or 4 axes"
        )
    if isinstance(array, np.ndarray) and array.shape[1] not in CHANNELS:
        return np.moveaxis(array, 3, 1) if array.shape[3] in CHANNELS else array
    return array


def _channels_first(image: Array) -> Array:
    """Return an image (row, col), or with its channels last, with its channels first."""
    image = np.asarray(image)
    if image.ndim == 2:
        return image[None]
    last = image.ndim == 3 and image.shape[0] not in CHANNELS and image.shape[2] in CHANNELS
    return np.moveaxis(image, 2, 0) if last else image


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
    if target is None or not (labels.needs_values or count == 2):
        return labels.resolve(())
    present = stored_values(open_labels(target, "fit_target"))
    classes = labels.resolve(set().union(*present))
    labels.check_coding(present, classes)
    return classes


@contextmanager
def new_stack(
    out: Path | None,
    dtype: Any,
    extent: Extent,
    channels: tuple[int, ...] = (),
    ids: Sequence[str] | None = None,
) -> Iterator[Stack]:
    """Yield images to fill: in memory, or in files that appear once they are complete.

    Args:
        out: a `.npy` file; or a folder for one file per image, `.npy` or, of label maps, `.png`;
            None for memory.
        dtype: of the values.
        extent: number and sizes of the images.
        channels: axes between the image and its rows.
        ids: names of the files in a folder; by default the images' numbers.

    Raises:
        BadSpec: a file for images of several sizes, or a folder that is not empty.
        BadData: an image's name that cannot be a file's.
    """
    if out is None:
        yield empty_stack(extent, dtype, channels)
    elif not is_array_file(out):
        from evaluation.core.files import atomic_folder, check_file_names
        from members.external.stacks import ImageFolder

        if out.exists() and (not out.is_dir() or any(out.iterdir())):
            raise BadSpec(f"{out} exists and is not empty; name a new folder, or a .npy file")
        names = list(ids) if ids is not None else [f"{i:05d}" for i in range(len(extent))]
        check_file_names(names)
        with atomic_folder(out) as partial:
            yield ImageFolder(partial, names, as_labels=not channels)
    elif extent.one_size is None:
        raise BadSpec(f"{out} takes images of one size; these have {extent}: name a folder instead")
    else:
        with atomic_file(out) as partial:
            array = create_stack(partial, dtype=dtype, extent=extent, channels=channels)
            yield array
            array.flush()


def is_array_file(out: Path) -> bool:
    """Return whether a result goes to one `.npy` file, not to a folder.

    Raises:
        BadSpec: a file of another kind.
    """
    if out.suffix not in ("", ".npy") and not out.is_dir():
        raise BadSpec(f"{out}; expected a name that ends in .npy, or a folder")
    return out.suffix == ".npy" and not out.is_dir()


def written_stack(out: Path) -> Stack:
    """Open what `new_stack` wrote."""
    if is_array_file(out):
        return open_array(out)
    from members.external.stacks import MapFolder

    return MapFolder.open(out)


def check_same_images(
    first: "OpenedArrays | MapReader", second: "OpenedArrays | MapReader"
) -> None:
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


def same_images(maps: "MapReader", opened: OpenedArrays) -> OpenedArrays:
    """Return the images or labels of maps, which may be of a part of the images of a folder.

    Raises:
        BadData: a map without its file, or a file without its map where all images have maps.
    """
    from ensemble.coverage import PlacedMaps

    if isinstance(maps, PlacedMaps) and opened.ids is not None and set(maps.ids) < set(opened.ids):
        index_of = {name: index for index, name in enumerate(opened.ids)}
        indices = np.array([index_of[name] for name in maps.ids], np.intp)
        return OpenedArrays(opened.name, opened.array[indices], maps.ids)
    check_same_images(maps, opened)
    return opened


def _open(
    source: Any,
    name: str,
    error: type[EnsError],
    arranged: Callable[[Any], Array],
    read_image_file: Callable[[Path], Array],
) -> OpenedArrays:
    """Open what is given; `arranged` puts rows and columns of a single image last."""
    if isinstance(source, str | PathLike):
        path = Path(source)
        if path.is_dir():
            return _open_folder(path, error, arranged, read_image_file)
        return OpenedArrays(str(path), open_array(path))
    if isinstance(source, np.ndarray | Ragged):
        return OpenedArrays(name, source)
    items = [arranged(item) for item in _items(source, name, error)]
    return OpenedArrays(name, _together(name, items, error))


def _items(source: Any, name: str, error: type[EnsError]) -> Sequence[Any]:
    """Return the arrays of a list."""
    if not isinstance(source, list | tuple):
        raise error(
            f"{name} is of type {type(source).__name__}; expected an array, a list of arrays, or"
            " the path of a file or folder"
        )
    if not source:
        raise error(f"{name} is empty; expected one array per image")
    return source


def _open_folder(
    folder: Path,
    error: type[EnsError],
    arranged: Callable[[Any], Array],
    read_image_file: Callable[[Path], Array],
) -> OpenedArrays:
    from members.data.image_files import IMAGE_SUFFIXES, image_size, list_files
    from members.external.file_names import image_names
    from members.external.stacks import FileStack

    suffixes = tuple(dict.fromkeys((*ARRAY_SUFFIXES, *IMAGE_SUFFIXES)))
    files = list_files(folder, suffixes)
    if not files:
        raise BadData(f"{folder} holds no {', '.join(suffixes)} file; expected one per image")
    named = sorted(zip(image_names(list(files)), files.values(), strict=True))
    ids, paths = zip(*named, strict=True)

    def read(file: Path) -> Array:
        is_array = file.suffix.lower() in ARRAY_SUFFIXES
        return arranged(open_array(file) if is_array else read_image_file(file))

    def shape_and_type(file: Path) -> tuple[tuple[int, ...], np.dtype[Any]]:
        is_array = file.suffix.lower() in ARRAY_SUFFIXES
        if read_image_file is _read_mask and not is_array and file != paths[0]:
            return image_size(file), np.dtype(np.uint8)
        array = read(file)
        return array.shape, array.dtype

    shapes, dtypes = zip(*map(shape_and_type, paths), strict=True)
    _check_alike(str(folder), shapes, dtypes, error)
    return OpenedArrays(str(folder), FileStack(paths, shapes, dtypes[0], read), ids)


def _together(name: str, arrays: list[Array], error: type[EnsError]) -> Stack:
    """Stack arrays; those of several sizes become `Ragged`."""
    _check_alike(name, [a.shape for a in arrays], [a.dtype for a in arrays], error)
    return stack_images(arrays)


def _check_alike(
    name: str,
    shapes: Sequence[tuple[int, ...]],
    dtypes: Sequence[np.dtype[Any]],
    error: type[EnsError],
) -> None:
    """Check that arrays of images differ in rows and columns alone."""
    if len(set(map(len, shapes))) > 1 or len(set(dtypes)) > 1:
        raise error(f"{name} holds arrays of different types or numbers of axes; expected one kind")
    if len(shapes[0]) < 2 or len({shape[:-2] for shape in shapes}) > 1:
        raise error(
            f"{name} holds arrays of shapes {', '.join(map(str, list(dict.fromkeys(shapes))[:2]))};"
            " expected rows and columns last, and as many classes or channels in each"
        )


def _read_image(file: Path) -> Array:
    from members.data.image_files import read_image_uint8

    return read_image_uint8(file)


def _read_mask(file: Path) -> Array:
    from members.data.image_files import read_mask

    return read_mask(file)
