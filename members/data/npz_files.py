"""Read data sets from NumPy files: general and competition `.npz`, and `.npy` of images."""

import difflib
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from evaluation.core.classes import MARS, Classes
from evaluation.core.errors import BadData
from evaluation.core.files import array_names, open_array
from evaluation.core.types import Array
from members.data.dataset import CHANNELS, IMAGE_DTYPES, StoredSet

IMAGES_KEY, COMPETITION_KEY = "images", "training_set"
KNOWN = (IMAGES_KEY, "masks", "group", "source", "classes", "ignore")
COMPETITION_KNOWN = (COMPETITION_KEY, "test_set", "training_group")
MAX_BYTE = 255
MAX_CHANNELS = 32
MIN_SIMILARITY = 0.75


def read_npz(path: Path) -> dict[str, StoredSet]:
    """Read `images`, and where present `masks` (N, H, W), `group` (N,), `source` (N,), `classes`.

    `classes` names the values of masks from 0 upwards, and `ignore` is the name of the class that
    is not scored; without `ignore` every class is scored, but for the classes of AI4Mars, whose
    background never is. Images are uint8, uint16 or float32, (N, H, W), (N, H, W, channel) or
    (N, channel, H, W) with up to 32 channels. Ids are the sources, numbered where several images
    have one source; without sources the file's name, numbered.

    Raises:
        BadData: other shapes or types.
    """
    names = array_names(path)
    _check_spelling(path, names, KNOWN)
    masks = groups = None
    if "masks" in names:
        masks = _to_uint8(f"{path}: masks", open_array(path, "masks"))
    size = None if masks is None or masks.ndim != 3 else masks.shape[1:]
    stored = _to_image_type(f"{path}: images", open_array(path, IMAGES_KEY))
    images = _channels_first(path, stored, size)
    if "group" in names:
        groups = as_names(f"{path}: group", open_array(path, "group"), len(images))
    sources = [path.stem] * len(images)
    if "source" in names:
        array = open_array(path, "source")
        sources = [str(name) for name in as_names(f"{path}: source", array, len(images))]
    known = _named_classes(path) if "classes" in names else None
    data = StoredSet(images, masks, number_repeats(sources), groups, known)
    return {"test" if masks is None else "training": data}


def _named_classes(path: Path) -> Classes:
    array = open_array(path, "classes")
    class_names = tuple(as_names(f"{path}: classes", array, len(array)).tolist())
    ignore = None
    if "ignore" in array_names(path):
        ignored = str(as_names(f"{path}: ignore", np.atleast_1d(open_array(path, "ignore")), 1)[0])
        if ignored not in (*class_names, ""):
            raise BadData(
                f"{path}: ignore is {ignored!r}; expected one of {', '.join(class_names)}"
            )
        ignore = class_names.index(ignored) if ignored else None
    elif class_names == MARS.names:
        return MARS
    return Classes(class_names, ignore=ignore)


def class_arrays(classes: Classes) -> dict[str, Array]:
    """Return the arrays `classes` and `ignore` that tell `read_npz` the classes of masks."""
    ignored = "" if classes.ignore is None else classes.names[classes.ignore]
    return {"classes": np.array(classes.names), "ignore": np.array(ignored)}


def read_stack(path: Path) -> dict[str, StoredSet]:
    """Read a `.npy` of images without labels, shaped as `images` in `read_npz`."""
    images = _channels_first(path, _to_image_type(str(path), open_array(path)))
    ids = number_repeats([path.stem] * len(images))
    return {"test": StoredSet(images, None, ids)}


def _to_image_type(name: str, array: Array) -> Array:
    """Return uint8, uint16 and float32 as they are, and other whole numbers 0 to 255 as uint8."""
    return array if array.dtype in IMAGE_DTYPES else _to_uint8(name, array)


def _to_uint8(name: str, array: Array) -> Array:
    """Return whole numbers 0 to 255 as uint8; nothing is scaled or rounded."""
    if array.dtype == np.uint8:
        return array
    if array.dtype.kind not in "iub":
        raise BadData(f"{name} is {array.dtype}; expected uint8, 0 to 255")
    if array.size and not (array.min() >= 0 and array.max() <= MAX_BYTE):
        raise BadData(f"{name} runs from {array.min()} to {array.max()}; expected 0 to 255")
    return array.astype(np.uint8)


def as_names(name: str, array: Array, count: int) -> Array:
    """Return one string per image; numbers become their digits.

    Raises:
        BadData: another length, or neither strings nor whole numbers.
    """
    if array.shape != (count,) or array.dtype.kind not in "USiu":
        raise BadData(
            f"{name} is {array.dtype} of shape {array.shape}; expected {count} strings or whole"
            " numbers, one per image"
        )
    try:
        words = np.char.decode(array, "utf-8") if array.dtype.kind == "S" else array.astype(np.str_)
        np.char.encode(words, "utf-8")
    except (ValueError, SystemError) as error:  # SystemError: invalid code points
        raise BadData(f"{name} holds what is no text ({error}); write it again as UTF-8") from None
    return np.asarray(words)


def number_repeats(names: Sequence[str]) -> tuple[str, ...]:
    """Number the names where any repeats.

    Examples:
        >>> number_repeats(["a", "b", "a"])
        ('a-00000', 'b-00000', 'a-00001')
    """
    if len(set(names)) == len(names):
        return tuple(names)
    seen: Counter[str] = Counter()
    numbered_names = []
    for name in names:
        numbered_names.append(f"{name}-{seen[name]:05d}")
        seen[name] += 1
    return tuple(numbered_names)


def _check_spelling(path: Path, names: Sequence[str], known: Sequence[str]) -> None:
    """Refuse an array whose name is almost a known one: it would be ignored silently."""
    for name in names:
        missing = [key for key in known if key not in names]
        if name not in known:
            for close in difflib.get_close_matches(name, missing, 1, MIN_SIMILARITY):
                raise BadData(f"{path} holds an array {name!r}; expected {close!r}; rename it")


def _channels_first(path: Path, images: Array, size: tuple[int, ...] | None = None) -> Array:
    """Return (N, C, H, W); which axis is C is told by the masks' size, else by its length."""
    if images.ndim == 3:
        return images[:, None]
    if images.ndim == 4:
        for is_channels in (
            lambda axis, rest: rest == size and images.shape[axis] <= MAX_CHANNELS,
            lambda axis, _: images.shape[axis] in CHANNELS,
            lambda axis, _: images.shape[axis] <= MAX_CHANNELS,
        ):
            first = is_channels(1, images.shape[2:])
            last = is_channels(3, images.shape[1:3])
            if first != last:
                return images if first else np.moveaxis(images, -1, 1)
    raise BadData(
        f"{path}: images have shape {images.shape}; expected (N, H, W), (N, H, W, C) or"
        f" (N, C, H, W) with up to {MAX_CHANNELS} channels C, and H and W of the masks or above"
    )


def read_competition(path: Path) -> dict[str, StoredSet]:
    """Read `training_set` (N, 2, H, W), `test_set` (M, H, W) and `training_group` (N,).

    Ids are `train-00000` and `test-00000` upwards. `test_set` and `training_group` may be missing.
    The classes are those of the competition, of which background is ignored.

    Raises:
        BadData: other shapes or types.
    """
    names = array_names(path)
    _check_spelling(path, names, COMPETITION_KNOWN)
    both = _to_uint8(f"{path}: {COMPETITION_KEY}", open_array(path, COMPETITION_KEY))
    if both.ndim != 4 or both.shape[1] != 2:
        raise BadData(
            f"{path}: {COMPETITION_KEY} has shape {both.shape}; expected (N, 2, H, W), image and"
            " mask"
        )
    images, masks = both[:, :1], both[:, 1]
    groups = None
    if "training_group" in names:
        groups = as_names(f"{path}: training_group", open_array(path, "training_group"), len(both))
    ids = tuple(f"train-{index:05d}" for index in range(len(both)))
    sets = {"training": StoredSet(images, masks, ids, groups, MARS)}
    if "test_set" not in names:
        return sets
    test = _to_uint8(f"{path}: test_set", open_array(path, "test_set"))
    rows, cols = both.shape[2:]
    if test.ndim != 3 or test.shape[1:] != (rows, cols):
        raise BadData(
            f"{path}: test_set has shape {test.shape}; expected (M, {rows}, {cols})"
            " like the training images"
        )
    if len(test):
        ids = tuple(f"test-{index:05d}" for index in range(len(test)))
        sets["test"] = StoredSet(test[:, None], None, ids)
    return sets
