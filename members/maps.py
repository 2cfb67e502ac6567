"""Where maps come from: anything that reads blocks of images, and plain arrays as such."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np
from jaxtyping import Shaped

from evaluation.core.blocks import map_blocks
from evaluation.core.errors import BadMaps
from evaluation.core.types import Map
from members.chunks import STEPS_UINT8
from members.probabilities import QUANTUM, check_maps
from members.store import Few

Size = tuple[int, int, int, int]
"""Images, classes, rows, cols."""


@runtime_checkable
class MapReader(Protocol):
    """The maps of one member."""

    @property
    def name(self) -> str:
        """What errors call the member."""
        ...

    @property
    def size(self) -> Size:
        """Images, classes, rows, cols."""
        ...

    @property
    def kind(self) -> str:
        """Either `probabilities` or `one_vs_rest`."""
        ...

    @property
    def floor(self) -> float:
        """Half the smallest probability that the maps tell from zero."""
        ...

    def read(self, images: slice, room: Map | None = None) -> Map:
        """Read some images as float32 probabilities; called from several threads at once.

        Args:
            images: which.
            room: contiguous memory of their shape, which a reader that converts uses instead of
                new memory; one that need not convert may return a view of what it has.
        """
        ...

    def stream(
        self, images: slice, places: Sequence[Few], *, onto: Iterator[Few] | None = None
    ) -> Iterator[Few]:
        """Read some images few at a time, so that they can be used while they are in the cache.

        Nothing made of them may leave before the last was given, since only then it is known that
        what was read is whole.

        Args:
            images: which.
            places: `room` for the first few, for the next, and so on to the last of `images`.
            onto: another's stream of the same images to the same places; the sum is given then.
        """
        ...


@dataclass(frozen=True)
class ArrayMaps:
    """Maps in an array, usually mapped from a file: floating point, or uint8 scaled by 255.

    Args:
        name: what errors call it: the file.
        array: (image, class, row, col).
        kind: what the values are.

    Raises:
        BadMaps: another shape or type, or nothing inside.
    """

    name: str
    array: Shaped[np.ndarray, "..."]
    kind: str = "probabilities"

    def __post_init__(self) -> None:
        """Check what can be seen without reading values."""
        shape, dtype = self.array.shape, self.array.dtype
        if len(shape) != 4 or 0 in shape:
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
    def size(self) -> Size:
        """Images, classes, rows, cols."""
        images, classes, rows, cols = self.array.shape
        return images, classes, rows, cols

    @property
    def floor(self) -> float:
        """Half the smallest probability that the type tells from zero."""
        return QUANTUM.get(self.array.dtype.name, QUANTUM["float32"]) / 2

    def read(self, images: slice, room: Map | None = None) -> Map:
        """Read some images as float32 probabilities; of a float32 array, a view."""
        stored = np.asarray(self.array)[images]  # cutting a memmap as such takes microseconds
        if stored.dtype == np.float32:
            return stored
        maps: Map = np.empty(stored.shape, np.float32) if room is None else room
        # What is too large for float32 becomes infinite, which `check` refuses.
        with np.errstate(over="ignore"):
            np.copyto(maps, stored, casting="same_kind")
        if stored.dtype == np.uint8:
            maps *= np.float32(1 / STEPS_UINT8)
        return maps

    def stream(
        self, images: slice, places: Sequence[Few], *, onto: Iterator[Few] | None = None
    ) -> Iterator[Few]:
        """Read some images few at a time; see `MapReader`."""
        start = images.indices(len(self.array))[0]
        for place in places:
            stop = start + len(place)
            if onto is None:
                yield self.read(slice(start, stop), place)
            else:
                yield np.add(next(onto), self.read(slice(start, stop)), out=place)
            start = stop

    def check(self) -> None:
        """Look at every value, block by block.

        Raises:
            BadMaps: NaN, values outside 0 to 1, or a pixel whose classes do not sum to 1.
        """

        def look(block: slice) -> None:
            try:
                check_maps(self.read(block), self.array.dtype.name, kind=self.kind)
            except BadMaps as error:
                raise BadMaps(f"{self.name}: {error}") from None

        for _ in map_blocks(look, len(self.array)):
            pass


def check_agreement(members: Sequence[MapReader]) -> Size:
    """Return the size that all members share.

    Raises:
        BadMaps: no members, or one that differs from the first.
    """
    if not members:
        raise BadMaps("no members to fuse; expected at least one")
    first = members[0]
    for other in members[1:]:
        if other.size != first.size:
            raise BadMaps(
                f"{other.name} holds {_in_words(other.size)}; expected {_in_words(first.size)}"
                f" as in {first.name}"
            )
    return first.size


def read_checked(member: MapReader, block: slice, room: Map | None = None) -> Map:
    """Read a block of a member, as `MapReader.read` does.

    Raises:
        BadMaps: NaN or infinite values; names the member and the image.
    """
    maps = member.read(block, room)
    if not np.isfinite(maps.sum()):
        check_finite(member, block)
    return maps


def check_finite(member: MapReader, block: slice) -> None:
    """Refuse NaN and infinite values, which most fusions would pass on or take for a class.

    Raises:
        BadMaps: there is one; names the member and the image.
    """
    bad = ~np.isfinite(member.read(block)).all(axis=(1, 2, 3))
    if bad.any():
        image = range(*block.indices(member.size[0]))[int(bad.argmax())]
        raise BadMaps(
            f"{member.name} holds NaN or infinite values in image {image}; expected"
            " probabilities: remove its maps and make or import them again"
        )


def _in_words(size: Size) -> str:
    images, classes, rows, cols = size
    return f"{images} images of {classes} classes and {rows}x{cols} pixels"
