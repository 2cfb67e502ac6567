"""A folder of pairs, `images/NAME.*` and `masks/NAME.*`, or of images alone."""

from pathlib import Path

import numpy as np

from evaluation.core.errors import BadData, BadLabels
from evaluation.core.ragged import stack_images
from evaluation.core.types import Array
from members.data.dataset import StoredSet
from members.data.image_files import (
    IMAGE_SUFFIXES,
    MASK_SUFFIXES,
    exif_orientation,
    list_files,
    read_image_uint8,
    read_mask,
)

IMAGES = "images"
MASKS = "masks"
MAX_SHOWN = 3


def read(path: Path) -> dict[str, StoredSet]:
    """Read pairs with equal names, which are the ids; `masks/` may be missing.

    Images in the folder itself are unlabelled too.

    Raises:
        BadData: images without masks or the reverse, damaged files, or images neither grey nor
            RGB.
        BadLabels: a mask that is no image of one value per pixel.
    """
    paired = (path / IMAGES).is_dir()
    files = list_files(path / IMAGES if paired else path)
    if not files:
        raise BadData(
            f"{path / IMAGES} holds no image; expected images/NAME.png (or"
            f" {', '.join(IMAGE_SUFFIXES[1:])})"
        )
    labelled = paired and (path / MASKS).is_dir()
    mask_files = list_files(path / MASKS, MASK_SUFFIXES) if labelled else {}
    if labelled:
        _check_pairs(path, set(files), set(mask_files))
    arrays = {name: read_image_uint8(file) for name, file in files.items()}
    masks = None
    if labelled:
        targets = {name: read_mask(mask_files[name]) for name in files}
        _check_sizes(path, files, arrays, targets)
        masks = stack_images(list(targets.values()))
    data = StoredSet(stack_images(_channels_first(path, arrays)), masks, tuple(files))
    return {"training" if labelled else "test": data}


def _check_pairs(path: Path, images: set[str], masks: set[str]) -> None:
    for names, has, lacks in ((images - masks, IMAGES, MASKS), (masks - images, MASKS, IMAGES)):
        if names:
            first = ", ".join(sorted(names)[:MAX_SHOWN])
            raise BadData(
                f"{path}: {len(names)} names in {has}/ are not in {lacks}/ (first: {first});"
                " expected pairs of equal names"
            )


def _check_sizes(
    path: Path, files: dict[str, Path], images: dict[str, Array], masks: dict[str, Array]
) -> None:
    for name, image in images.items():
        if masks[name].shape != image.shape[:2]:
            orientation = exif_orientation(files[name])
            turned = f" after turning by its EXIF orientation {orientation}" * (orientation > 1)
            raise BadLabels(
                f"{path}: the mask of {name!r} is {masks[name].shape}, its image"
                f" {image.shape[:2]}{turned}; expected the same size"
            )


def _channels_first(path: Path, images: dict[str, Array]) -> list[Array]:
    pixels = list(images.values())
    if len({image.ndim for image in pixels}) > 1:
        # WebP has no grey images: those of three equal channels are.
        if any(image.ndim == 3 and (image != image[..., :1]).any() for image in pixels):
            raise BadData(f"{path} holds grey and RGB images; expected one kind")
        pixels = [image if image.ndim == 2 else image[..., 0] for image in pixels]
    return [
        image[None] if image.ndim == 2 else np.ascontiguousarray(np.moveaxis(image, -1, 0))
        for image in pixels
    ]
