"""The probability maps of one member: what every source of maps offers, and maps in an array."""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from evaluation.core.blocks import blocks, map_blocks
from evaluation.core.classes import UNLABELLED, Classes
from evaluation.core.errors import BadLabels, BadMaps, EnsError
from evaluation.core.ragged import Extent, Stack, extent_of
from evaluation.core.types import Kept, Map
from members.probabilities import QUANTUM, STEPS_UINT8, check_maps

SmallBatch = Float[np.ndarray, "_ class row col"]
"""Maps of some images; their number has no name, since the next batch may be smaller."""


class MapReader(ABC):
    """Probability maps of one member, read by blocks of images.

    The one interface to stores, families of specialists and arrays: what fuses or scores a run
    does the same for plain files.

    Attributes:
        name: what errors call the member.
        ids: one per image, in order; None where nothing says which images these are.
        classes: what the class axis means; None where nothing says it.
        kind: `probabilities`, which sum to 1, or `one_vs_rest`, each class against the rest.
    """

    name: str
    ids: tuple[str, ...] | None
    classes: Classes | None
    kind: str

    @property
    @abstractmethod
    def extent(self) -> Extent:
        """Number and sizes of the images."""

    @property
    @abstractmethod
    def num_classes(self) -> int:
        """Length of the class axis."""

    @property
    @abstractmethod
    def floor(self) -> float:
        """Half the smallest probability that the maps tell from zero: logarithms take no less."""

    @abstractmethod
    def trained_on_mask(self) -> Kept | None:
        """Return, per image, whether a model was trained on it; None is undeclared."""

    @abstractmethod
    def stream(
        self,
        images: slice,
        outs: Sequence[SmallBatch],
        *,
        accumulate_into: Iterator[SmallBatch] | None = None,
    ) -> Iterator[SmallBatch]:
        """Read images in small batches, so that they can be used while they are in the cache.

        No result made from them may leave before the last batch was given: only then it is known
        that what was read is undamaged.

        Args:
            images: a slice with step 1, of images of one size.
            outs: contiguous memory for the first batch, the next, and so on to the last.
            accumulate_into: another reader's stream of the same images to the same `outs`; the
                batches are the sums then.
        """

    def __len__(self) -> int:
        """Return the number of images."""
        return len(self.extent)

    def block_shape(self, images: slice) -> tuple[int, int, int, int]:
        """Return the shape of the maps of a slice: images of one size, classes, rows, cols."""
        start, stop, _ = images.indices(len(self))
        return (stop - start, self.num_classes, *self.extent.size_of(start))

    def read(self, images: slice, out: Map | None = None) -> Map:
        """Read images as float32 probabilities; called from several threads at once.

        Args:
            images: a slice with step 1, of images of one size.
            out: contiguous memory of their shape, which a reader that converts uses instead of
                new memory; one that need not convert may return a view of what it has.
        """
        maps: Map = np.empty(self.block_shape(images), np.float32) if out is None else out
        for _ in self.stream(images, [maps]):
            pass
        return maps


class BlockReader(MapReader):
    """A reader that makes the maps of any images at once; small batches are read one by one."""

    @abstractmethod
    def read(self, images: slice, out: Map | None = None) -> Map:
        """Read images as float32 probabilities; see `MapReader.read`."""

    def stream(
        self,
        images: slice,
        outs: Sequence[SmallBatch],
        *,
        accumulate_into: Iterator[SmallBatch] | None = None,
    ) -> Iterator[SmallBatch]:
        """Read images in small batches; see `MapReader.stream`."""
        start = images.indices(len(self))[0]
        for out in outs:
            part = slice(start, start + len(out))
            if accumulate_into is None:
                yield self.read(part, out)
            else:  # `out` may hold the sum, so that it cannot take what is added
                yield np.add(next(accumulate_into), self.read(part), out=out)
            start = part.stop


@dataclass(frozen=True)
class ArrayMaps(BlockReader):
    """Maps in an array, often mapped from a file: floating point, or uint8 scaled by 255.

    Args:
        name: what errors call it: the file.
        array: (image, class, row, col); `Ragged`, or what reads like it, where sizes differ.
        kind: what the values are.
        ids: one per image, where known.
        classes: what the class axis means, where known.

    Raises:
        BadMaps: another shape or type, or an empty array.

    Examples:
        >>> maps = ArrayMaps("unet.npy", np.full((3, 2, 4, 4), 0.5, np.float16))
        >>> len(maps), maps.num_classes, maps.read(slice(0, 2)).dtype
        (3, 2, dtype('float32'))
    """

    name: str
    array: Stack
    kind: str = "probabilities"
    ids: tuple[str, ...] | None = None
    classes: Classes | None = None

    def __post_init__(self) -> None:
        """Check what can be seen without reading values."""
        shape, dtype = self.array.shape, self.array.dtype
        if len(shape) != 4 or 0 in shape or not isinstance(shape[1], int):
            raise BadMaps(f"{self.name} has shape {shape}; expected (image, class, row, col)")
        if shape[1] < 2:
            raise BadMaps(
                f"{self.name} has {shape[1]} class; expected 2 or more on the second axis"
            )
        if dtype != np.uint8 and dtype.kind != "f":
            raise BadMaps(
                f"{self.name} is {dtype}; expected floating point, or uint8 scaled by {STEPS_UINT8}"
            )

    @property
    def extent(self) -> Extent:
        """Number and sizes of the images."""
        return extent_of(self.array)

    @property
    def num_classes(self) -> int:
        """Length of the class axis."""
        return int(self.array.shape[1])

    @property
    def floor(self) -> float:
        """Half the smallest probability that the type tells from zero."""
        return QUANTUM.get(self.array.dtype.name, QUANTUM["float32"]) / 2

    def trained_on_mask(self) -> None:
        """Return None: an array declares no training images."""

    def read(self, images: slice, out: Map | None = None) -> Map:
        """Read images as float32 probabilities; of a float32 array, a view."""
        # Cutting a memmap as such takes microseconds.
        array = np.asarray(self.array) if isinstance(self.array, np.ndarray) else self.array
        stored = np.asarray(array[images])
        if stored.dtype == np.float32:
            return stored
        maps: Map = np.empty(stored.shape, np.float32) if out is None else out
        # What is too large for float32 becomes infinite, which `check` refuses.
        with np.errstate(over="ignore"):
            np.copyto(maps, stored, casting="same_kind")
        if stored.dtype == np.uint8:
            maps *= np.float32(1 / STEPS_UINT8)
        return maps

    def check(self) -> None:
        """Check every value, block by block.

        Raises:
            BadMaps: NaN, values outside 0 to 1, or a pixel whose classes do not sum to 1.
        """

        def check_block(block: slice) -> None:
            try:
                check_maps(self.read(block), self.array.dtype.name, kind=self.kind)
            except BadMaps as error:
                raise BadMaps(f"{self.name}: {error}") from None

        for _ in map_blocks(check_block, self.extent):
            pass


def copy_into(maps: Map, out: Map) -> None:
    """Copy maps into `out`, unless that is what they are."""
    if maps is not out:
        np.copyto(out, maps)


def check_agreement(members: Sequence[MapReader]) -> MapReader:
    """Return the first member, if all members have its number of classes and images of its sizes.

    Raises:
        BadMaps: no members, or one that differs from the first.
    """
    if not members:
        raise BadMaps("no members to fuse; expected at least one")
    first = members[0]
    for other in members[1:]:
        if (other.num_classes, other.extent) != (first.num_classes, first.extent):
            raise BadMaps(
                f"{other.name} holds {_describe(other)}; expected {_describe(first)}"
                f" as in {first.name}"
            )
    return first


def check_target(target: Stack, maps: MapReader) -> None:
    """Check that a target fits maps, and holds only their classes.

    Args:
        target: class index per pixel, (image, row, col); 255 where unlabelled.
        maps: of the same images.

    Raises:
        BadLabels: another shape or type, or a label outside the classes.
    """
    if target.ndim != 3 or extent_of(target) != maps.extent or target.dtype.kind not in "iu":
        shape = getattr(target, "shape", "several sizes")
        raise BadLabels(
            f"target is {target.dtype} of shape {shape}; expected integers, {len(maps)} images of"
            f" {maps.extent} pixels as in {maps.name}"
        )
    for block in blocks(maps.extent):
        labels = np.unique(target[block])
        unknown = labels[((labels < 0) | (labels >= maps.num_classes)) & (labels != UNLABELLED)]
        if len(unknown):
            raise BadLabels(
                f"target contains {unknown.tolist()};"
                f" expected 0 to {maps.num_classes - 1} and {UNLABELLED}"
            )


def check_same_images(
    map_ids: Sequence[str] | None,
    ids: Sequence[str],
    *,
    member: str,
    split: str,
    error: type[EnsError] = BadMaps,
) -> None:
    """Check that maps are of the images of a split, in the same order.

    Args:
        map_ids: ids of the maps.
        ids: ids of the split's images.
        member: whose maps they are, for the message.
        split: name of the split, for the message.
        error: what to raise.

    Examples:
        >>> check_same_images(("a", "b"), ("a", "b"), member="unet", split="oof")
        >>> check_same_images(("b", "a"), ("a", "b"), member="unet", split="oof")
        Traceback (most recent call last):
        ...
        evaluation.core.errors.BadMaps: 'unet': maps were made for other images than split 'oof'; \
predict or import them again
    """
    if map_ids is None or tuple(map_ids) != tuple(ids):
        raise error(
            f"{member!r}: maps were made for other images than split {split!r};"
            " predict or import them again"
        )


def read_checked(member: MapReader, block: slice, out: Map | None = None) -> Map:
    """Read a block of a member, as `MapReader.read` does.

    Raises:
        BadMaps: NaN or infinite values; names the member and the image.
    """
    maps = member.read(block, out)
    if not np.isfinite(maps.sum()):
        check_finite(member, block)
    return maps


def check_finite(member: MapReader, block: slice) -> None:
    """Refuse NaN and infinite values, which most fusions would pass on or take for a class.

    Raises:
        BadMaps: there are some; names the member and the image.
    """
    bad = ~np.isfinite(member.read(block)).all(axis=(1, 2, 3))
    if bad.any():
        image = range(*block.indices(len(member)))[int(bad.argmax())]
        raise BadMaps(
            f"{member.name} holds NaN or infinite values in image {image}; expected"
            " probabilities: remove its maps and make or import them again"
        )


def _describe(maps: MapReader) -> str:
    return f"{len(maps)} images of {maps.num_classes} classes and {maps.extent} pixels"
