"""What a fusion is: many members' maps in, one map out; and how it goes through memory."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import NamedTuple, Protocol, cast, runtime_checkable

import numpy as np
from jaxtyping import Float, Integer

from evaluation.core.errors import BadData
from evaluation.core.types import (
    Array,
    Images,
    Map,
    Maps,
)

CLASS_AXIS = -3
"""The axis of the classes in `Maps` and in `Map`."""

SMALLEST = 1e-12
"""Scores below this are none, which keeps quotients and logarithms well inside float32."""

PIECE_VALUES = 1 << 17
"""Values of one member that are worked on at a time: half a megabyte, which stays in the cache."""


# The number of images has no name here, since the last block may be shorter.
class TrainingBlock(NamedTuple):
    """Some images to learn from.

    Args:
        maps: of all members, float32.
        target: class index per pixel; 255 where the annotators gave none.
        images: uint8, with 1 or 3 channels; None where nothing looks at them.
    """

    maps: Float[np.ndarray, "member _ class row col"]
    target: Integer[np.ndarray, "_ row col"]
    images: Integer[np.ndarray, "_ channel row col"] | None = None


Blocks = Iterable[TrainingBlock]
"""Blocks of images; can be gone through several times."""


@runtime_checkable
class Fusion(Protocol):
    """A frozen dataclass that turns the maps of all members into one map of probabilities.

    Its fields are numpy arrays, numbers, strings and tuples of these two, or other fusions, so that
    it can be saved. One that looks at the images too says `needs_images = True` and takes them
    as a second argument; see `fuse_block`.
    """

    def __call__(self, maps: Maps) -> Map:
        """Fuse; each image by itself, so that it comes out the same in any block."""
        ...


@runtime_checkable
class SumFusion(Protocol):
    """A fusion of the members' sum alone: maps are added as they are read."""

    def of_sum(self, total: Map) -> None:
        """Turn the sum over members into the fused map, in place."""
        ...


@dataclass(frozen=True)
class LearnedFusion:
    """A fusion that must learn first.

    Args:
        fit: takes blocks of maps, of images that no member was trained on, with their target.
        needs_images: whether it looks at the images, which the blocks must hold then.
    """

    fit: Callable[[Blocks], Fusion]
    needs_images: bool = False


def needs_images(fusion: object) -> bool:
    """Tell whether a fusion, or what learns one, looks at the images."""
    return bool(getattr(fusion, "needs_images", False))


def fuse_block(fusion: Fusion, maps: Maps, images: Images | None = None) -> Map:
    """Fuse maps, with the images where the fusion looks at them.

    Raises:
        BadData: it looks at images and there are none.
    """
    if not needs_images(fusion):
        return fusion(maps)
    if images is None:
        raise BadData(f"{type(fusion).__name__} looks at the images; give them beside the maps")
    looking = cast("Callable[[Maps, Images], Map]", fusion)
    return looking(maps, images)


def by_pieces(maps: Maps, scores: Callable[..., Map], *beside: Array) -> Map:
    """Fuse piece by piece, so that what lies between the steps of a strategy stays in the cache.

    Args:
        maps: maps of all members.
        scores: gives non-negative scores of the classes for a piece of the maps (some images,
            some rows) and the same piece of what is beside; no pixel's scores are all zero.
        beside: features of the same pixels, (image, feature, row, col).

    Returns:
        The scores, divided by their sum over the classes.
    """
    fused: Map = np.empty(maps.shape[1:], np.float32)
    for images, rows in _pieces(*maps.shape[1:]):
        more = [features[images, :, rows] for features in beside]
        piece = scores(maps[:, images, :, rows], *more)
        np.divide(piece, piece.sum(axis=CLASS_AXIS, keepdims=True), out=fused[images, :, rows])
    return fused


def _pieces(images: int, classes: int, rows: int, cols: int) -> Iterator[tuple[slice, slice]]:
    """Cut into whole images, or, where one is too large already, into bands of rows."""
    in_row = max(1, classes * cols)
    height = min(max(1, PIECE_VALUES // in_row), max(1, rows))
    count = max(1, PIECE_VALUES // (in_row * height)) if height == rows else 1
    for first in range(0, images, count):
        for top in range(0, rows, height):
            yield slice(first, first + count), slice(top, top + height)
