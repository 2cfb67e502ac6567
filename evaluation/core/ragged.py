"""Sets of images of one or several sizes.

Images of one size lie next to each other, and every stage works on blocks of one size. So a set of
several sizes gives what its sizes give one by one. Blocks are bounded by pixels, so that memory
stays flat for small tiles and for large photographs alike.
"""

import bisect
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate, groupby
from typing import Any, TypeAlias

import numpy as np

from evaluation.core.types import Array

Size: TypeAlias = tuple[int, int]
"""Rows and columns, in pixels."""

BLOCK_IMAGES = 64
BLOCK_PIXELS = 1 << 19
"""Pixels of a block: 64 images of 64 x 128, or one of 512 x 1024 or more."""


@dataclass(frozen=True)
class Extent:
    """How many images there are, and of which sizes, in order.

    Args:
        runs: number and size of images that lie next to each other.

    Examples:
        >>> extent = Extent(((3, (4, 6)), (1, (8, 8))))
        >>> len(extent), extent.size_of(3), extent.one_size
        (4, (8, 8), None)
        >>> extent.blocks(2)
        [slice(0, 2, None), slice(2, 3, None), slice(3, 4, None)]
    """

    runs: tuple[tuple[int, Size], ...]

    @classmethod
    def uniform(cls, images: int, size: Size) -> "Extent":
        """Return the extent of images of one size."""
        return cls(((images, size),))

    @classmethod
    def of_sizes(cls, sizes: Sequence[Size]) -> "Extent":
        """Return the extent of images with these sizes, in order."""
        return cls(tuple((len(list(same)), size) for size, same in groupby(sizes)))

    def __len__(self) -> int:
        """Return the number of images."""
        return self._starts[-1]

    @cached_property
    def _starts(self) -> list[int]:
        """Where each run starts, and the end of the last one."""
        return [0, *accumulate(count for count, _ in self.runs)]

    @property
    def one_size(self) -> Size | None:
        """Rows and columns of all images; None where they differ."""
        sizes = {size for _, size in self.runs}
        return sizes.pop() if len(sizes) == 1 else None

    @property
    def sizes(self) -> list[Size]:
        """The size of each image."""
        return [size for count, size in self.runs for _ in range(count)]

    @property
    def smallest(self) -> Size:
        """The fewest rows and the fewest columns, perhaps of different images."""
        rows, cols = zip(*(size for _, size in self.runs), strict=True)
        return min(rows), min(cols)

    @property
    def pixels(self) -> int:
        """The number of pixels of all images together."""
        return sum(count * rows * cols for count, (rows, cols) in self.runs)

    def slices(self) -> Iterator[tuple[slice, Size]]:
        """Yield the images of each run as a slice, with their size."""
        for start, stop, (_, size) in zip(self._starts, self._starts[1:], self.runs, strict=False):
            yield slice(start, stop), size

    def size_of(self, image: int) -> Size:
        """Return rows and columns of an image."""
        if not 0 <= image < len(self):
            raise IndexError(f"image {image} of {len(self)}")
        return self.runs[bisect.bisect_right(self._starts, image) - 1][1]

    def blocks(self, images: int = BLOCK_IMAGES) -> list[slice]:
        """Cut into slices of one size, of at most `images` images and `BLOCK_PIXELS` pixels."""
        parts = []
        for run, size in self.slices():
            step = block_images(size, images)
            starts = range(run.start, run.stop, step)
            parts += [slice(start, min(start + step, run.stop)) for start in starts]
        return parts

    def largest_block(self, images: int = BLOCK_IMAGES) -> int:
        """Return the pixels of the largest of the blocks."""
        return max(
            (
                min(count, block_images(size, images)) * size[0] * size[1]
                for count, size in self.runs
            ),
            default=0,
        )

    def take(self, indices: Array) -> "Extent":
        """Return the extent of some of the images, by index or one bool per image."""
        if len(self.runs) == 1:
            return Extent.uniform(len(np.arange(len(self))[indices]), self.runs[0][1])
        sizes = self.sizes
        return Extent.of_sizes([sizes[index] for index in np.arange(len(self))[indices]])

    def __str__(self) -> str:
        """Describe the sizes, such as `64x128` or `9 sizes, 256x256 to 1040x1388`."""
        sizes = sorted({size for _, size in self.runs}, key=lambda size: size[0] * size[1])
        first, last = (f"{rows}x{cols}" for rows, cols in (sizes[0], sizes[-1]))
        return first if len(sizes) == 1 else f"{len(sizes)} sizes, {first} to {last}"


class Ragged:
    """Images of several sizes that read like one array with the images along the first axis.

    Args:
        parts: arrays (image, ..., row, col) that lie one after the other, each of one size.

    Examples:
        >>> ragged = Ragged([np.zeros((2, 4, 6)), np.ones((1, 8, 8))])
        >>> len(ragged), ragged[1:2].shape, ragged[2].shape
        (3, (1, 4, 6), (8, 8))
    """

    def __init__(self, parts: Sequence[Array]) -> None:
        self.parts = tuple(parts)
        self._starts = np.cumsum([0, *map(len, self.parts)])
        self.extent = Extent(tuple((len(part), _size(part)) for part in self.parts))
        """Number and sizes of the images."""

    @property
    def dtype(self) -> Any:
        """Type of the values."""
        return self.parts[0].dtype

    @property
    def ndim(self) -> int:
        """Number of axes, that of the images included."""
        return int(self.parts[0].ndim)

    @property
    def nbytes(self) -> int:
        """Size in memory."""
        return sum(part.nbytes for part in self.parts)

    @property
    def shape(self) -> tuple[Any, ...]:
        """Length of each axis; None for rows and columns, which differ."""
        first = self.parts[0].shape
        return (len(self), *first[1:-2], None, None)

    def __len__(self) -> int:
        """Return the number of images."""
        return int(self._starts[-1])

    def __iter__(self) -> Iterator[Array]:
        """Yield image after image."""
        for part in self.parts:
            yield from part

    def __getitem__(self, key: Any) -> Any:
        """Return an image, images of one size as an array, or some of the images."""
        if isinstance(key, int | np.integer):
            part, index = self._locate(range(len(self))[key])
            return part[index]
        if isinstance(key, slice):
            start, stop, step = key.indices(len(self))
            if step == 1 and start < stop:
                part, index = self._locate(start)
                if index + stop - start <= len(part):
                    return part[index : index + stop - start]
        return self._gather(np.arange(len(self))[key])

    def __setitem__(self, block: slice, values: Array) -> None:
        """Set images of one size."""
        part, index = self._locate(block.start)
        part[index : index + block.stop - block.start] = values

    def __array__(self, *_: object, **__: object) -> Array:
        """Refuse: images of several sizes are no array."""
        raise TypeError(f"images of {self.extent}; work on one size at a time")

    def flush(self) -> None:
        """Write memory maps to disk."""
        for part in self.parts:
            base: Any = part
            while base is not None and not hasattr(base, "flush"):
                base = base.base
            if base is not None:
                base.flush()

    def _locate(self, image: int) -> tuple[Array, int]:
        number = int(np.searchsorted(self._starts, image, side="right")) - 1
        return self.parts[number], image - int(self._starts[number])

    def _gather(self, indices: Array) -> Any:
        if not len(indices):
            return self.parts[0][:0]
        numbers = np.searchsorted(self._starts, indices, side="right") - 1
        cuts = np.flatnonzero(np.diff(numbers)) + 1
        parts = [
            self.parts[numbers[run[0]]][indices[run] - self._starts[numbers[run[0]]]]
            for run in np.split(np.arange(len(indices)), cuts)
        ]
        return join(parts)


Stack: TypeAlias = Any
"""Images along the first axis: an array, a memory map, or `Ragged` where sizes differ."""


def join(parts: Sequence[Array]) -> Stack:
    """Return arrays of images one after the other; one array where all sizes are equal."""
    if len(parts) == 1:
        return parts[0]
    if len({part.shape[1:] for part in parts}) == 1:
        return np.concatenate(list(parts))
    return Ragged([np.concatenate(list(same)) for _, same in groupby(parts, key=_shape)])


def stack_images(images: Sequence[Array]) -> Stack:
    """Stack images (..., row, col) in the given order; `Ragged` where their sizes differ."""
    return join([np.stack(list(same)) for _, same in groupby(images, key=np.shape)])


def empty_stack(extent: Extent, dtype: Any, channels: tuple[int, ...] = ()) -> Stack:
    """Return uninitialised memory for images, (image, *channels, row, col)."""
    parts = [np.empty((count, *channels, *size), dtype) for count, size in extent.runs]
    return parts[0] if len(parts) == 1 else Ragged(parts)


def map_stack(function: Callable[[Array], Array], images: Stack) -> Stack:
    """Return a function of the images of each size, one after the other."""
    if isinstance(images, Ragged):
        return Ragged([function(part) for part in images.parts])
    return function(images)


def extent_of(images: Stack) -> Extent:
    """Return number and sizes of images (image, ..., row, col)."""
    if isinstance(images, Ragged):
        return images.extent
    extent = getattr(images, "extent", None)
    return (
        extent
        if isinstance(extent, Extent)
        else Extent.uniform(int(images.shape[0]), _size(images))
    )


def block_images(size: Size, images: int = BLOCK_IMAGES) -> int:
    """Return the number of images of a size in a block."""
    return max(1, min(images, BLOCK_PIXELS // max(1, size[0] * size[1])))


def _size(array: Any) -> Size:  # tensors and label maps read on demand too
    return int(array.shape[-2]), int(array.shape[-1])


def _shape(array: Array) -> tuple[int, ...]:
    return tuple(array.shape[1:])
