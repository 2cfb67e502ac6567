"""A folder of pairs, `images/NAME.png` (or `.jpg`) and `masks/NAME.png`, or of images alone."""

import struct
import warnings
from pathlib import Path

import numpy as np
from PIL import Image

from evaluation.core.errors import BadData, BadLabels
from evaluation.core.ragged import Size
from evaluation.core.types import Array
from members.data.dataset import StoredSet, resize_image, resize_mask

IMAGES = "images"
MASKS = "masks"
SUFFIXES = (".png", ".jpg", ".jpeg")
MAX_SHOWN = 3

FORMATS = ("PNG", "JPEG")
"""Pillow recognises dozens more by content, some of which start other programs."""

MAX_PIXELS = 1 << 26
"""8192 x 8192: a file of a few kB may unpack to any number."""

BOMBS = (Image.DecompressionBombError, Image.DecompressionBombWarning)
warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # our limit is the lower one


def read(path: Path, size: Size | None) -> dict[str, StoredSet]:
    """Read pairs with equal names, which are the ids; `masks/` may be missing.

    Images in the folder itself are unlabelled too.

    Raises:
        BadData: images without masks or the reverse, several sizes without `size`, damaged
            files, or images neither grey nor RGB.
        BadLabels: a mask that is no image of one value per pixel.
    """
    paired = (path / IMAGES).is_dir()
    files = image_files(path / IMAGES if paired else path)
    if not files:
        raise BadData(f"{path / IMAGES} holds no image; expected images/NAME.png (or .jpg)")
    labelled = paired and (path / MASKS).is_dir()
    if labelled:
        _check_pairs(path, set(files))
    arrays = {name: _read_image(file) for name, file in files.items()}
    images = _stack(path, arrays, size)
    masks = None
    if labelled:
        targets = {name: _read_mask(path / MASKS / f"{name}.png") for name in files}
        _check_sizes(path, arrays, targets)
        shape = (images.shape[2], images.shape[3])
        masks = np.stack([resize_mask(target, shape) for target in targets.values()])
    data = StoredSet(images, masks, tuple(files))
    return {"training" if labelled else "test": data}


def image_files(folder: Path) -> dict[str, Path]:
    """List the PNG and JPEG files of a folder by their names without suffix, sorted.

    Raises:
        BadData: two files of one name.
    """
    files: dict[str, Path] = {}
    for file in sorted(folder.iterdir()):
        if file.suffix.lower() in SUFFIXES and file.is_file():
            if file.stem in files:
                raise BadData(f"{folder} holds {files[file.stem].name} and {file.name}; remove one")
            files[file.stem] = file
    return files


def open_image(file: Path) -> Image.Image:
    """Read an image file whole.

    Raises:
        BadData: missing, truncated or no image.
    """
    try:
        with Image.open(file, formats=FORMATS) as image:
            if image.width * image.height > MAX_PIXELS:
                raise ValueError(f"{image.width} x {image.height} pixels; cut it into tiles")
            image.load()
            return image
    except FileNotFoundError:
        raise BadData(f"{file} is missing; expected an image") from None
    except (OSError, ValueError, SyntaxError, struct.error, *BOMBS) as error:
        raise BadData(f"{file} is no readable image ({error}); restore it or remove it") from None


def _check_pairs(path: Path, images: set[str]) -> None:
    masks = {file.stem for file in (path / MASKS).glob("*.png")}
    for names, has, lacks in ((images - masks, IMAGES, MASKS), (masks - images, MASKS, IMAGES)):
        if names:
            first = ", ".join(sorted(names)[:MAX_SHOWN])
            raise BadData(
                f"{path}: {len(names)} names in {has}/ are not in {lacks}/ (first: {first});"
                " expected pairs of equal names"
            )


def _read_image(file: Path) -> Array:
    image = open_image(file)
    if image.mode not in ("L", "RGB"):
        raise BadData(f"{file} has mode {image.mode}; expected 8-bit grey (L) or RGB")
    return np.asarray(image)


def _read_mask(file: Path) -> Array:
    mask = open_image(file)
    # In a palette image the indices are the labels, whatever their colours.
    if mask.mode not in ("1", "L", "P"):
        raise BadLabels(f"{file} has mode {mask.mode}; expected class indices as 8-bit grey")
    return np.asarray(mask).astype(np.uint8)


def _check_sizes(path: Path, images: dict[str, Array], masks: dict[str, Array]) -> None:
    for name, image in images.items():
        if masks[name].shape != image.shape[:2]:
            raise BadLabels(
                f"{path}: the mask of {name!r} is {masks[name].shape}, its image"
                f" {image.shape[:2]}; expected the same size"
            )


def _stack(path: Path, images: dict[str, Array], size: Size | None) -> Array:
    sizes = sorted({image.shape[:2] for image in images.values()})
    if size is None and len(sizes) > 1:
        shown = ", ".join(f"{rows}x{cols}" for rows, cols in sizes[:MAX_SHOWN])
        raise BadData(f"{path} holds images of {len(sizes)} sizes ({shown}); choose one by --size")
    if len({image.ndim for image in images.values()}) > 1:
        raise BadData(f"{path} holds grey and RGB images; expected one kind")
    shape = sizes[0] if size is None else size
    stacked = np.stack([resize_image(image, shape) for image in images.values()])
    if stacked.ndim == 3:
        return stacked[:, None]
    return np.ascontiguousarray(np.moveaxis(stacked, -1, 1))
