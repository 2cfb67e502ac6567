"""Resize images for a network, and bring its maps back to the images' own size."""

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Literal, TypeAlias

import numpy as np

from evaluation.core.classes import UNLABELLED
from evaluation.core.files import create_stack
from evaluation.core.ragged import Extent, Size
from evaluation.core.types import Array, Images, Map
from members.data.dataset import DataSet, resize_image, resize_mask
from members.external.resize import bilinear

Fit: TypeAlias = Literal["stretch", "pad", "crop"]
"""How an image is made to fit a size. `stretch`: rows and columns are scaled one by one. `pad`: it
is scaled by one factor to lie inside, and its edge is repeated below and to the right. `crop`: it
is scaled by one factor to cover the size, and training takes the centre."""


def scaled_size(image: Size, size: Size, fit: Fit) -> Size:
    """Return rows and columns of an image once it is scaled, before padding or cropping.

    Examples:
        >>> [scaled_size((360, 480), (64, 64), fit) for fit in ("stretch", "pad", "crop")]
        [(64, 64), (48, 64), (64, 85)]
    """
    if fit == "stretch":
        return size
    factors = [side / own for side, own in zip(size, image, strict=True)]
    factor = min(factors) if fit == "pad" else max(factors)
    rows, cols = (
        side if side / own == factor else max(1, round(own * factor))
        for side, own in zip(size, image, strict=True)
    )
    return rows, cols


def resized_extent(extent: Extent, size: Size | None) -> Extent:
    """Return number and sizes of the images that a network is trained on."""
    return extent if size is None else Extent.uniform(len(extent), size)


def resized_set(data: DataSet, size: Size, fit: Fit) -> DataSet:
    """Return a labelled set whose images have one size, to train on, in unnamed temporary files.

    Pixels of images are means of areas, those of masks the nearest ones. What `pad` adds is
    unlabelled.

    Args:
        data: images of any sizes.
        size: rows and columns.
        fit: see `Fit`.
    """
    extent = Extent.uniform(len(data), size)
    with tempfile.TemporaryDirectory() as name:
        images, masks = (
            create_stack(Path(name) / file, dtype=dtype, extent=extent, channels=channels)
            for file, dtype, channels in (
                ("images.npy", data.images.dtype, (data.channels,)),
                ("target.npy", np.uint8, ()),
            )
        )
    # The maps keep the files alive after their names are gone.
    for index, (image, mask) in enumerate(zip(data.images, data.target(), strict=True)):
        images[index], masks[index] = _fitted(image, mask, size, fit)
    return DataSet(images, masks, data.ids, data.groups, data.classes)


def predict_resized(
    predictor: Callable[[Images], Map], images: Images, size: Size, fit: Fit
) -> Map:
    """Predict images at the size of training; return maps of the images' own size.

    Images are scaled as in training. `crop` predicts all of the scaled image, which networks take
    as they take any size: what training left out has no worse claim to a prediction. Maps are
    interpolated as external ones are (`members.external.resize`).

    Args:
        predictor: returns the maps of images of one size.
        images: (image, channel, row, col), of one size.
        size: rows and columns of training.
        fit: see `Fit`.

    Examples:
        >>> images = np.arange(8, dtype=np.uint8).reshape(1, 1, 2, 4)
        >>> def halves(images):
        ...     return np.full((len(images), 2, *images.shape[2:]), 0.5, np.float32)
        >>> predict_resized(halves, images, (4, 4), "pad").shape
        (1, 2, 2, 4)
    """
    own = images.shape[2:]
    rows, cols = scaled_size((own[0], own[1]), size, fit)
    scaled = np.stack([_scaled(image, (rows, cols)) for image in images])
    if fit == "pad":
        scaled = np.pad(scaled, ((0, 0), (0, 0), *_margins((rows, cols), size)), mode="edge")
    return bilinear(predictor(scaled)[..., :rows, :cols], (own[0], own[1]))


def _fitted(image: Array, mask: Array, size: Size, fit: Fit) -> tuple[Array, Array]:
    rows, cols = scaled_size((mask.shape[0], mask.shape[1]), size, fit)
    image, mask = _scaled(image, (rows, cols)), resize_mask(mask, (rows, cols))
    if fit == "pad":
        margins = _margins((rows, cols), size)
        image = np.pad(image, ((0, 0), *margins), mode="edge")
        return image, np.pad(mask, margins, constant_values=UNLABELLED)
    top, left = (rows - size[0]) // 2, (cols - size[1]) // 2
    window = (slice(top, top + size[0]), slice(left, left + size[1]))
    return image[(slice(None), *window)], mask[window]


def _scaled(image: Array, size: Size) -> Array:
    return np.stack([resize_image(np.asarray(channel), size) for channel in image])


def _margins(scaled: Size, size: Size) -> tuple[tuple[int, int], tuple[int, int]]:
    return (0, size[0] - scaled[0]), (0, size[1] - scaled[1])
