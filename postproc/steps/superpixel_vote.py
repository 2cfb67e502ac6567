"""One opinion for each superpixel of the image.

Superpixels: patches of an image of about one size and one colour, for a block at once.
"""

import itertools
from typing import Annotated

import numpy as np
from jaxtyping import Float, Int, Shaped
from pydantic import Field

from evaluation.core.types import Images, Map
from postproc.step import Step

Owners = Int[np.ndarray, "image row col"]
Feature = Float[np.ndarray, "_ _ _ _"]
Centres = Float[np.ndarray, "image down across"]
FAR = np.float32(1e6)
AROUND = tuple(itertools.product((0, -1, 1), repeat=2))


def superpixels(
    images: Images, *, size_px: int, compactness: float, iterations: int
) -> tuple[int, Owners]:
    """Cluster pixels by place and colour around centres that begin on a grid (SLIC).

    Each pixel looks at the centres of the nine cells around it, which reach as far as the
    published search window. Centres begin as the means of their cells, not moved to flat places,
    and parts that have lost their superpixel stay with it. Colours count as they are, not in
    CIELAB; the mean over channels makes a grey image the same as three equal channels.

    Args:
        images: uint8, 1 or 3 channels.
        size_px: side of a cell of the grid; cells at the far borders may be smaller.
        compactness: the difference in grey levels that counts as much as one side of a cell.
        iterations: how often centres move.

    Returns:
        How many there are in the block, and the number of each pixel's, of no two images one.

    Source: Achanta, Shaji, Smith, Lucchi, Fua and Süsstrunk, "SLIC Superpixels Compared to
        State-of-the-Art Superpixel Methods", IEEE TPAMI 2012.
    """
    count, channels, rows, cols = images.shape
    features = _features(images, size_px, compactness * channels**0.5)
    shape = np.broadcast_shapes(*(feature.shape for feature in features))
    cells = np.arange(count * shape[1] * (shape[3] // size_px)).reshape(count, shape[1], -1)
    own = np.broadcast_to(_along(cells, size_px), shape)
    seen = [_cropped(np.broadcast_to(feature, shape), rows, cols) for feature in features]
    owners = _cropped(own, rows, cols)
    centres = [np.zeros(cells.shape, np.float32) for _ in features]
    for _ in range(iterations):
        _move(centres, seen, owners)
        owners = _cropped(own + _nearest(features, centres, shape), rows, cols)
    return cells.size, owners.reshape(count, rows, cols)


def averaged(maps: Map, owners: Owners, count: int) -> Map:
    """Give each pixel the mean of the maps over its superpixel."""
    flat = owners.ravel()
    sizes = np.maximum(np.bincount(flat, minlength=count), 1)
    result = np.empty(maps.shape, np.float32)
    for label in range(maps.shape[1]):
        total = np.bincount(flat, weights=maps[:, label].ravel(), minlength=count)
        np.take((total / sizes).astype(np.float32), owners, out=result[:, label])
    return result


def _features(images: Images, size_px: int, level: float) -> list[Feature]:
    """Return row, column and colours, scaled so that they can be compared; cut into cell rows."""
    count, channels, rows, cols = images.shape
    more = (-rows % size_px, -cols % size_px)
    framed = np.pad(images, ((0, 0), (0, 0), (0, more[0]), (0, more[1])), mode="edge")
    height, width = framed.shape[2:]
    row, col = (np.arange(side, dtype=np.float32) / np.float32(size_px) for side in (height, width))
    colours = framed.astype(np.float32) / np.float32(level)
    cut = (count, height // size_px, size_px, width)
    return [
        row.reshape(1, -1, size_px, 1),
        col.reshape(1, 1, 1, -1),
        *(colours[:, channel].reshape(cut) for channel in range(channels)),
    ]


def _move(
    centres: list[Centres],
    seen: list[Float[np.ndarray, " pixel"]],
    owners: Int[np.ndarray, " pixel"],
) -> None:
    """Move centres, in place, to the means of their pixels; one that has none stays."""
    sizes = np.bincount(owners, minlength=centres[0].size)
    for centre, values in zip(centres, seen, strict=True):
        total = np.bincount(owners, weights=values, minlength=centre.size)
        mean = (total / np.maximum(sizes, 1)).reshape(centre.shape)
        np.copyto(centre, mean, where=(sizes > 0).reshape(centre.shape), casting="same_kind")


def _nearest(
    features: list[Feature], centres: list[Centres], shape: tuple[int, ...]
) -> Int[np.ndarray, "image cell_row side cols"]:
    """Return how far each pixel's nearest centre is from its own cell's, as cells are counted."""
    across, size_px = centres[0].shape[2], shape[2]
    framed = [np.pad(one, ((0, 0), (1, 1), (1, 1)), constant_values=FAR) for one in centres]
    least, nearest = np.full(shape, np.inf, np.float32), np.zeros(shape, np.uint8)
    distance, part = np.empty((2, *shape), np.float32)
    for place, (down, right) in enumerate(AROUND):
        distance[:] = 0
        for feature, one in zip(features, framed, strict=True):
            moved = one[:, 1 + down : 1 + down + shape[1], 1 + right : 1 + right + across]
            np.subtract(feature, _along(moved, size_px), out=part)
            distance += np.square(part, out=part)
        np.copyto(nearest, place, where=distance < least)
        np.minimum(least, distance, out=least)
    return np.array([down * across + right for down, right in AROUND])[nearest]


def _along(
    cells: Shaped[np.ndarray, "image down across"], size_px: int
) -> Shaped[np.ndarray, "image down 1 cols"]:
    """Give each column the value of its cell."""
    return cells.repeat(size_px, axis=2)[:, :, None]


def _cropped(
    cut: Shaped[np.ndarray, "image cell_row side cols"], rows: int, cols: int
) -> Shaped[np.ndarray, " pixel"]:
    """Put cell rows together, and leave out what was added to fill them."""
    whole = cut.reshape(cut.shape[0], -1, cut.shape[3])
    return whole[:, :rows, :cols].ravel()


def superpixel_vote(
    *,
    size_px: Annotated[int, Field(ge=2, le=255)] = 8,
    compactness: Annotated[float, Field(gt=0, le=1000)] = 20.0,
    iterations: Annotated[int, Field(ge=1, le=100)] = 5,
) -> Step:
    """Average the maps over superpixels of the image: patches of about one size and one colour.

    So labels change where the image does, and a patch has one label. Superpixels end with the
    image; those at the lower and right border may be smaller. Colours count as they are, a grey
    image as three equal channels.

    Args:
        size_px: side of a superpixel, about, in pixels.
        compactness: the difference in grey levels of 0 to 255 that counts as much as one such
            side: the higher, the more the superpixels are squares.
        iterations: how often the superpixels' centres move.

    Source: Achanta, Shaji, Smith, Lucchi, Fua and Süsstrunk, "SLIC Superpixels Compared to
        State-of-the-art Superpixel Methods", IEEE TPAMI 2012.
    """

    def apply(maps: Map, images: Images | None) -> Map:
        assert images is not None
        count, owners = superpixels(
            images, size_px=size_px, compactness=compactness, iterations=iterations
        )
        return averaged(maps, owners, count)

    return Step("maps", "maps", apply, needs_images=True)
