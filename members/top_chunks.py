"""Chunks of maps of many classes: the largest classes of each pixel; see top_classes.h.

The stored array has two planes per kept class: the probabilities in steps of 1/255, the largest
first, then which classes they are. What is left to 1 is spread evenly over the others. Behind the
maps of a chunk stand the largest and the mean error of its probabilities.
"""

import ctypes
import functools
import struct
from collections.abc import Iterator, Sequence
from io import FileIO
from typing import Any

import numpy as np

from evaluation.core.types import Array, Map
from members.chunks import ArrayLayout
from members.maps import SmallBatch
from members.packed_chunks import PackedChunk, library_function

ERROR = struct.Struct("<dd")


class TopChunk(PackedChunk):
    """A chunk of the largest classes, read from its first image to its last.

    Args:
        file: opened, at its beginning; it is read whole and closed.
        name: what errors call it: its path or URL.
        layout: of the stored array.

    Raises:
        DamagedChunk: as `PackedChunk`.
    """

    def __init__(self, file: FileIO, name: str, layout: ArrayLayout) -> None:
        super().__init__(file, name, layout)
        self._bytes = np.empty(layout.shape[1:], np.uint8)

    def read_into(self, out: Array, *, add: bool = False) -> None:
        """Read the next images as float32 probabilities; see `PackedChunk.read_into`."""
        for image in out:
            self.next_bytes(self._bytes)
            add_up([self._bytes], image, add=add)


def choose_top(maps: Map, k: int) -> tuple[Array, bytes]:
    """Return the stored array of maps, (image, 2 k, row, col), and the note about its error."""
    maps = np.ascontiguousarray(maps, np.float32)
    images, classes, rows, cols = maps.shape
    chosen = np.empty((images, 2 * k, rows, cols), np.uint8)
    error = (ctypes.c_double * 2)()
    shape = (ctypes.c_int64 * 4)(images, k, classes, rows * cols)
    _choose_function()(maps.ctypes.data, shape, chosen.ctypes.data, error)
    return chosen, ERROR.pack(error[0], error[1] / maps.size)


def add_up(members: Sequence[Array], out: Array, *, add: bool = False) -> None:
    """Put the sum of an image's maps to `out`, or add it, in one pass through the memory.

    Args:
        members: stored bytes of each member, (2 k, row, col).
        out: contiguous, (class, row, col).
        add: of one member only.
    """
    addresses = (ctypes.c_void_p * len(members))(*(one.ctypes.data for one in members))
    ks = (ctypes.c_int64 * len(members))(*(len(one) // 2 for one in members))
    classes, pixels = len(out), out[0].size
    _add_up_function()(addresses, ks, len(members), classes, pixels, add, out.ctypes.data)


def stream_sums(
    members: Sequence[Iterator[Array]], outs: Sequence[SmallBatch]
) -> Iterator[SmallBatch]:
    """Yield the sums over members of small batches of images.

    Args:
        members: of each, the stored bytes of its images, one after the other.
        outs: contiguous memory for the first batch, the next, and so on.
    """
    for out in outs:
        for image in out:
            add_up([next(member) for member in members], image)
        yield out


@functools.cache
def _choose_function() -> Any:
    pointer = ctypes.c_void_p
    return library_function("top_choose", None, pointer, pointer, pointer, pointer)


@functools.cache
def _add_up_function() -> Any:
    pointer, integer = ctypes.c_void_p, ctypes.c_int64
    arguments = (pointer, pointer, integer, integer, integer, ctypes.c_int32, pointer)
    return library_function("top_add_up", None, *arguments)
