"""A folder of pairs, `images/NAME.png` (or `.jpg`) and `masks/NAME.png`, or of pictures alone."""

import struct
import warnings
from pathlib import Path

import numpy as np
from PIL import Image

from evaluation.core.classes import MARS, Classes
from evaluation.core.errors import BadData, BadLabels
from evaluation.core.types import Array
from members.data.dataset import DataSet, Size, resize_mask, resize_picture
from members.data.npz_files import classes_of

PICTURES = "images"
MASKS = "masks"
SUFFIXES = (".png", ".jpg", ".jpeg")
SHOWN = 3

FORMATS = ("PNG", "JPEG")
"""Pillow goes by content and knows dozens more, some of which start other programs."""

MOST_PIXELS = 1 << 26
"""8192 x 8192: a file of a few kB may claim and unpack to any number."""

BOMBS = (Image.DecompressionBombError, Image.DecompressionBombWarning)
warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # our limit is the lower one


def read(path: Path, classes: Classes | None, size: Size | None) -> dict[str, DataSet]:
    """Read pairs with equal names; the names are the ids. Without `masks/` they are unlabelled.

    Pictures that lie in the folder itself are unlabelled too.

    Raises:
        BadData: pictures without masks or the reverse, several sizes without `size`, damaged
            files, or pictures neither grey nor of three channels.
        BadLabels: a mask that is no picture of class indices, or with a label outside the classes.
    """
    paired = (path / PICTURES).is_dir()
    files = picture_files(path / PICTURES if paired else path)
    if not files:
        raise BadData(f"{path / PICTURES} holds no picture; expected images/NAME.png (or .jpg)")
    labelled = paired and (path / MASKS).is_dir()
    if labelled:
        _check_pairs(path, set(files))
    found = {name: _picture(file) for name, file in files.items()}
    pictures = _stacked(path, found, size)
    masks = None
    if labelled:
        truths = {name: _mask(path / MASKS / f"{name}.png") for name in files}
        _check_sizes(path, found, truths)
        to = (pictures.shape[2], pictures.shape[3])
        masks = np.stack([resize_mask(truth, to) for truth in truths.values()])
    if classes is None:
        classes = MARS if masks is None else classes_of(masks)
    data = DataSet(pictures, masks, tuple(files), None, classes)
    return {"training" if labelled else "test": data}


def picture_files(folder: Path) -> dict[str, Path]:
    """List the PNG and JPEG files of a folder by their names without suffix, sorted.

    Raises:
        BadData: two files of one name.
    """
    found: dict[str, Path] = {}
    for file in sorted(folder.iterdir()):
        if file.suffix.lower() in SUFFIXES and file.is_file():
            if file.stem in found:
                raise BadData(f"{folder} holds {found[file.stem].name} and {file.name}; remove one")
            found[file.stem] = file
    return found


def open_picture(file: Path) -> Image.Image:
    """Read a picture file whole.

    Raises:
        BadData: missing, truncated or no picture.
    """
    try:
        with Image.open(file, formats=FORMATS) as picture:
            if picture.width * picture.height > MOST_PIXELS:
                raise ValueError(f"{picture.width} x {picture.height} pixels; cut it into tiles")
            picture.load()
            return picture
    except FileNotFoundError:
        raise BadData(f"{file} is missing; expected a picture") from None
    except (OSError, ValueError, SyntaxError, struct.error, *BOMBS) as error:
        raise BadData(f"{file} is no readable picture ({error}); restore it or remove it") from None


def _check_pairs(path: Path, pictures: set[str]) -> None:
    masks = {file.stem for file in (path / MASKS).glob("*.png")}
    for names, has, lacks in (
        (pictures - masks, PICTURES, MASKS),
        (masks - pictures, MASKS, PICTURES),
    ):
        if names:
            first = ", ".join(sorted(names)[:SHOWN])
            raise BadData(
                f"{path}: {len(names)} names in {has}/ are not in {lacks}/ (first: {first});"
                " expected pairs of equal names"
            )


def _picture(file: Path) -> Array:
    picture = open_picture(file)
    if picture.mode not in ("L", "RGB"):
        raise BadData(f"{file} has mode {picture.mode}; expected 8-bit grey (L) or RGB")
    return np.asarray(picture)


def _mask(file: Path) -> Array:
    mask = open_picture(file)
    # A palette's colours are for the eye; the indices are the labels.
    if mask.mode not in ("1", "L", "P"):
        raise BadLabels(f"{file} has mode {mask.mode}; expected class indices as 8-bit grey")
    return np.asarray(mask).astype(np.uint8)


def _check_sizes(path: Path, pictures: dict[str, Array], masks: dict[str, Array]) -> None:
    for name, picture in pictures.items():
        if masks[name].shape != picture.shape[:2]:
            raise BadLabels(
                f"{path}: the mask of {name!r} is {masks[name].shape}, its picture"
                f" {picture.shape[:2]}; expected the same size"
            )


def _stacked(path: Path, pictures: dict[str, Array], size: Size | None) -> Array:
    sizes = sorted({picture.shape[:2] for picture in pictures.values()})
    if size is None and len(sizes) > 1:
        met = ", ".join(f"{rows}x{cols}" for rows, cols in sizes[:SHOWN])
        raise BadData(f"{path} holds pictures of {len(sizes)} sizes ({met}); choose one by --size")
    if len({picture.ndim for picture in pictures.values()}) > 1:
        raise BadData(f"{path} holds grey and RGB pictures; expected one kind")
    to = sizes[0] if size is None else size
    stacked = np.stack([resize_picture(picture, to) for picture in pictures.values()])
    if stacked.ndim == 3:
        return stacked[:, None]
    return np.ascontiguousarray(np.moveaxis(stacked, -1, 1))
