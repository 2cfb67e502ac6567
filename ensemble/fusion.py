"""What a fusion is: maps of many members in, one map out; and how it is applied piece by piece."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Annotated, NamedTuple, Protocol, cast, runtime_checkable

import numpy as np
from jaxtyping import Float, Integer
from pydantic import Field

from evaluation.core.errors import BadData, BadSpec
from evaluation.core.types import Array, Images, Map, Maps

CLASS_AXIS = -3
"""The axis of the classes in `Maps` and in `Map`."""

SMALLEST = 1e-12
"""Scores below this count as 0, which keeps quotients and logarithms well inside float32."""

PIECE_VALUES = 1 << 17
"""Values of one member that are worked on at a time: half a megabyte, which stays in the cache."""

Floor = Annotated[float, Field(ge=SMALLEST, lt=1)]
"""An option: lower bound of probabilities before the logarithm. By default, half the smallest
probability that the stored maps tell from zero."""

ScoredLabels = Integer[np.ndarray, "scored"]
"""Labels of the scored classes."""


# The image axis has no name here, since the last block may be shorter.
class TrainingBlock(NamedTuple):
    """A block of images to fit on.

    Args:
        maps: of all members, float32.
        target: class index per pixel; 255 where unlabelled.
        images: uint8, with 1 or 3 channels; None where no strategy needs them.
    """

    maps: Float[np.ndarray, "member _ class row col"]
    target: Integer[np.ndarray, "_ row col"]
    images: Integer[np.ndarray, "_ channel row col"] | None = None


Blocks = Iterable[TrainingBlock]
"""Blocks of images; can be iterated several times."""


@runtime_checkable
class Fusion(Protocol):
    """A frozen dataclass that turns the maps of all members into one map of probabilities.

    Its fields are numpy arrays, numbers, strings and tuples of these two, or other fusions, so that
    it can be saved. One that reads the images too has `needs_images = True` and takes them as a
    second argument; see `fuse_block`.
    """

    def __call__(self, maps: Maps) -> Map:
        """Fuse; every image independently, so that its result does not depend on the block."""
        ...


class PixelwiseFusion(ABC):
    """A fusion whose result at a pixel depends on that pixel's maps alone."""

    def __call__(self, maps: Maps) -> Map:
        """Fuse piece by piece."""
        return by_pieces(maps, self._scores)

    @abstractmethod
    def _scores(self, maps: Maps) -> Map:
        """Return non-negative scores of the classes; see `by_pieces`."""


@runtime_checkable
class RenormalisableFusion(Protocol):
    """A fusion that is defined for some of its members, whose weights are renormalised."""

    def of_members(self, members: Sequence[int]) -> Fusion:
        """Return the fusion of some of the members, by index.

        Raises:
            BadMaps: all of them have weight 0.
        """
        ...


class AnyMembers:
    """A fusion that treats all members alike, so that it takes any number of them."""

    def of_members(self, members: Sequence[int]) -> Fusion:
        """Return the fusion itself."""
        return cast("Fusion", self)


@runtime_checkable
class SumFusion(Protocol):
    """A fusion that depends on the members' sum alone: maps are added as they are read."""

    def from_sum(self, total: Map) -> None:
        """Turn the sum over members into the fused map, in place."""
        ...


@dataclass(frozen=True)
class LearnedFusion:
    """A fusion that must be fitted first.

    Args:
        fit: takes blocks of maps, of images that no member was trained on, with their target.
        needs_images: whether the blocks must contain the images.
    """

    fit: Callable[[Blocks], Fusion]
    needs_images: bool = False


def needs_images(fusion: object) -> bool:
    """Return whether a fusion, or what is fitted to one, reads the images."""
    return bool(getattr(fusion, "needs_images", False))


def some_members(fusion: Fusion, members: Sequence[int]) -> Fusion:
    """Return the fusion of some of its members, by index, with renormalised weights.

    Raises:
        BadSpec: it is defined for all of its members only.
        BadMaps: all of them have weight 0.
    """
    if not isinstance(fusion, RenormalisableFusion):
        raise BadSpec(f"{type(fusion).__name__} is defined for all of its members only")
    return fusion.of_members(members)


def fuse_block(fusion: Fusion, maps: Maps, images: Images | None = None) -> Map:
    """Fuse maps, with the images where the fusion needs them.

    Raises:
        BadData: the fusion needs images and there are none.
    """
    if not needs_images(fusion):
        return fusion(maps)
    if images is None:
        raise BadData(f"{type(fusion).__name__} needs images; give them with the maps")
    with_images = cast("Callable[[Maps, Images], Map]", fusion)
    return with_images(maps, images)


def by_pieces(maps: Maps, scores: Callable[..., Map], *features: Array) -> Map:
    """Fuse piece by piece, so that the intermediate arrays of a strategy stay in the cache.

    Args:
        maps: maps of all members.
        scores: returns non-negative scores of the classes for a piece of the maps (some images,
            some rows) and the same piece of the features; at least one class of every pixel has a
            score above 0.
        features: further features of the pixels, (image, feature, row, col).

    Returns:
        The scores, divided by their sum over the classes.
    """
    fused: Map = np.empty(maps.shape[1:], np.float32)
    for images, rows in _pieces(*maps.shape[1:]):
        piece = scores(maps[:, images, :, rows], *(f[images, :, rows] for f in features))
        np.divide(piece, piece.sum(axis=CLASS_AXIS, keepdims=True), out=fused[images, :, rows])
    return fused


def scored_labels(classes: int, ignore: int | None) -> ScoredLabels:
    """Return the labels of all classes but the ignored one."""
    return np.array([label for label in range(classes) if label != ignore])


def check_any_scored(any_scored: object) -> None:
    """Refuse a target without scored pixels, of which nothing can be learned.

    Raises:
        BadData: there is none.
    """
    if not any_scored:
        raise BadData("target to fit on has no scored pixel; give images that have some")


def _pieces(images: int, classes: int, rows: int, cols: int) -> Iterator[tuple[slice, slice]]:
    """Cut into whole images, or, where one is too large, into bands of rows."""
    in_row = max(1, classes * cols)
    height = min(max(1, PIECE_VALUES // in_row), max(1, rows))
    count = max(1, PIECE_VALUES // (in_row * height)) if height == rows else 1
    for first in range(0, images, count):
        for top in range(0, rows, height):
            yield slice(first, first + count), slice(top, top + height)
