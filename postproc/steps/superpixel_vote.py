"""Average maps over superpixels: patches of an image of about one size and one colour (SLIC)."""

import itertools
from typing import Annotated

import numpy as np
from jaxtyping import Float, Int, Shaped
from pydantic import Field

from evaluation.core.types import Images, Map
from postproc.step import Step

FAR = np.float32(1e6)
OFFSETS = tuple(itertools.product((0, -1, 1), repeat=2))

Owners = Int[np.ndarray, "image row col"]
Feature = Float[np.ndarray, "_ _ _ _"]
Centres = Float[np.ndarray, "image down across"]


def superpixel_vote(
    *,
    size_px: Annotated[int, Field(ge=2, le=255)] = 8,
    compactness: Annotated[float, Field(gt=0, le=1000)] = 20.0,
    iterations: Annotated[int, Field(ge=1, le=100)] = 5,
) -> Step:
    """Average the maps over superpixels of the image: patches of about one size and one colour.

    So labels change where the image does, and a patch has one label. Superpixels end at the border;
    those at the lower and right border may be smaller. Colours are compared in RGB, a grey image
    counts as three equal channels.

    Args:
        size_px: approximate side of a superpixel, in pixels.
        compactness: the difference in grey levels (0 to 255) that counts as much as one such side:
            the higher, the squarer the superpixels.
        iterations: number of updates of the superpixels' centres.

    References:
        Achanta, Shaji, Smith, Lucchi, Fua and Süsstrunk, "SLIC Superpixels Compared to
        State-of-the-art Superpixel Methods", IEEE TPAMI 2012.

    Examples:
        >>> image = np.zeros((1, 1, 2, 8), np.uint8)
        >>> image[..., 3:] = 200
        >>> maps = np.full((1, 2, 2, 8), 0.5, np.float32)
        >>> maps[0, :, 0, 0] = 0, 1
        >>> superpixel_vote(size_px=4).apply(maps, image)[0, 1, 0].round(2)
        array([0.58, 0.58, 0.58, 0.5 , 0.5 , 0.5 , 0.5 , 0.5 ], dtype=float32)
    """

    def apply(maps: Map, images: Images | None) -> Map:
        assert images is not None
        count, owners = superpixels(
            images, size_px=size_px, compactness=compactness, iterations=iterations
        )
        return average_over(maps, owners, count)

    return Step("maps", "maps", apply, needs_images=True)


def superpixels(
    images: Images, *, size_px: int, compactness: float, iterations: int
) -> tuple[int, Owners]:
    """Cluster pixels by position and colour around centres that start on a grid (SLIC).

    Each pixel is compared with the centres of the nine cells around it, as far as the published
    search window reaches. Centres start as the means of their cells, not moved to low gradients,
    and parts that are cut off from their superpixel stay with it. Colours are compared in RGB, not
    in CIELAB; the mean over channels makes a grey image equal to three equal channels.

    Args:
        images: uint8, 1 or 3 channels.
        size_px: side of a cell of the grid; cells at the far borders may be smaller.
        compactness: the difference in grey levels that counts as much as one side of a cell.

    Returns:
        The number of superpixels in the block, and the index of each pixel's; none spans two
        images.
    """
    count, channels, rows, cols = images.shape
    features = _features(images, size_px, compactness * channels**0.5)
    shape = np.broadcast_shapes(*(feature.shape for feature in features))
    cells = np.arange(count * shape[1] * (shape[3] // size_px)).reshape(count, shape[1], -1)
    cell_of = np.broadcast_to(_spread(cells, size_px), shape)
    cropped = [_crop(np.broadcast_to(feature, shape), rows, cols) for feature in features]
    owners = _crop(cell_of, rows, cols)
    centres = [np.zeros(cells.shape, np.float32) for _ in features]
    for _ in range(iterations):
        _update_centres(centres, cropped, owners)
        owners = _crop(cell_of + _nearest(features, centres, shape), rows, cols)
    return cells.size, owners.reshape(count, rows, cols)


def average_over(maps: Map, owners: Owners, count: int) -> Map:
    """Give each pixel the mean of the maps over its superpixel."""
    flat = owners.ravel()
    sizes = np.maximum(np.bincount(flat, minlength=count), 1)
    result = np.empty(maps.shape, np.float32)
    for label in range(maps.shape[1]):
        total = np.bincount(flat, weights=maps[:, label].ravel(), minlength=count)
        np.take((total / sizes).astype(np.float32), owners, out=result[:, label])
    return result


def _features(images: Images, size_px: int, level: float) -> list[Feature]:
    """Return row, column and colours in comparable units, cut into rows of cells."""
    count, channels, rows, cols = images.shape
    missing = (-rows % size_px, -cols % size_px)
    padded = np.pad(images, ((0, 0), (0, 0), (0, missing[0]), (0, missing[1])), mode="edge")
    height, width = padded.shape[2:]
    row, col = (np.arange(side, dtype=np.float32) / np.float32(size_px) for side in (height, width))
    colours = padded.astype(np.float32) / np.float32(level)
    cut = (count, height // size_px, size_px, width)
    return [
        row.reshape(1, -1, size_px, 1),
        col.reshape(1, 1, 1, -1),
        *(colours[:, channel].reshape(cut) for channel in range(channels)),
    ]


def _update_centres(
    centres: list[Centres],
    features: list[Float[np.ndarray, " pixel"]],
    owners: Int[np.ndarray, " pixel"],
) -> None:
    """Move centres, in place, to the means of their pixels; one without pixels stays."""
    sizes = np.bincount(owners, minlength=centres[0].size)
    for centre, values in zip(centres, features, strict=True):
        total = np.bincount(owners, weights=values, minlength=centre.size)
        mean = (total / np.maximum(sizes, 1)).reshape(centre.shape)
        np.copyto(centre, mean, where=(sizes > 0).reshape(centre.shape), casting="same_kind")


def _nearest(
    features: list[Feature], centres: list[Centres], shape: tuple[int, ...]
) -> Int[np.ndarray, "image cell_row side cols"]:
    """Return the offset from each pixel's cell to that of its nearest centre, in cell indices."""
    across, size_px = centres[0].shape[2], shape[2]
    padded = [np.pad(one, ((0, 0), (1, 1), (1, 1)), constant_values=FAR) for one in centres]
    least, nearest = np.full(shape, np.inf, np.float32), np.zeros(shape, np.uint8)
    distance, part = np.empty((2, *shape), np.float32)
    for index, (down, right) in enumerate(OFFSETS):
        distance[:] = 0
        for feature, centre in zip(features, padded, strict=True):
            moved = centre[:, 1 + down : 1 + down + shape[1], 1 + right : 1 + right + across]
            np.subtract(feature, _spread(moved, size_px), out=part)
            distance += np.square(part, out=part)
        np.copyto(nearest, index, where=distance < least)
        np.minimum(least, distance, out=least)
    return np.array([down * across + right for down, right in OFFSETS])[nearest]


def _spread(
    cells: Shaped[np.ndarray, "image down across"], size_px: int
) -> Shaped[np.ndarray, "image down 1 cols"]:
    """Give each column the value of its cell."""
    return cells.repeat(size_px, axis=2)[:, :, None]


def _crop(
    cut: Shaped[np.ndarray, "image cell_row side cols"], rows: int, cols: int
) -> Shaped[np.ndarray, " pixel"]:
    """Join the rows of cells, and remove the padding."""
    whole = cut.reshape(cut.shape[0], -1, cut.shape[3])
    return whole[:, :rows, :cols].ravel()
