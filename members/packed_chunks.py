"""Chunks of maps of bytes, packed by bit planes without loss; see bit_planes.h.

A packed chunk is what `members/chunk_read.cpp` makes of its images, and a crc32c. Of the last chunk
of an array only the images that exist are packed. A note may stand behind them.
"""

import ctypes
import functools
import os
from collections.abc import Sequence
from io import FileIO
from typing import Any

import numpy as np

from evaluation.core.native import load_library
from evaluation.core.types import Array
from members.chunks import CHECKSUM_BYTES, LIBRARY, ArrayLayout, DamagedChunk

POINTER, INT64 = ctypes.c_void_p, ctypes.c_int64


class PackedChunk:
    """A packed chunk, in memory, read from its first image to its last.

    Args:
        file: opened, at its beginning; it is read whole and closed.
        name: what errors call it: its path or URL.
        layout: of the array.

    Raises:
        DamagedChunk: another size than a chunk may have, or the checksum does not match.
    """

    def __init__(self, file: FileIO, name: str, layout: ArrayLayout) -> None:
        self._name, self._shape = name, layout.shape[1:]
        with file:
            size = os.fstat(file.fileno()).st_size
            if not CHECKSUM_BYTES <= size <= layout.chunk_bytes:
                wrong = "short" if size < CHECKSUM_BYTES else "long"
                raise DamagedChunk(f"{name} is too {wrong}")
            content = np.empty(size, np.uint8)
            got = 0
            while got < size:
                count = file.readinto(content.data[got:])
                if not count:
                    raise DamagedChunk(f"{name} is too short")
                got += count
        self._packed, stored = content[:-CHECKSUM_BYTES], content[-CHECKSUM_BYTES:]
        if int.from_bytes(stored.tobytes(), "little") != checksum(self._packed):
            raise DamagedChunk(f"the checksum of {name} does not match")

    def read_into(self, out: Array, *, add: bool = False) -> None:
        """Read the next images as float32 probabilities.

        Args:
            out: contiguous, (image, class, row, col).
            add: add to the values of `out` instead of replacing them.

        Raises:
            DamagedChunk: it holds fewer images.
        """
        self._next(len(out), out.ctypes.data, add)

    def skip(self, images: int) -> None:
        """Pass over images."""
        self._next(images, None, add=False)

    def next_bytes(self, out: Array) -> None:
        """Read the bytes of the next image, (class, row, col), as they were packed.

        Raises:
            DamagedChunk: it holds fewer images.
        """
        left, maps = self._packed, _planes((1, *self._shape))
        passed = _unpack_bytes_function()(left.ctypes.data, len(left), maps, out.ctypes.data)
        self._pass(passed)

    def finish(self) -> None:
        """Do nothing: the checksum was verified before the first image."""

    def close(self) -> None:
        """Do nothing: the file is closed."""

    def _next(self, images: int, address: int | None, add: bool) -> None:
        left = self._packed
        maps = _planes((images, *self._shape))
        passed = _unpack_function()(left.ctypes.data, len(left), maps, add, address)
        self._pass(passed)

    def _pass(self, size: int) -> None:
        if size < 0:
            raise DamagedChunk(f"{self._name} is too short")
        self._packed = self._packed[size:]


def pack_chunk(values: Array, note: bytes = b"") -> list[Any]:
    """Return the content of a packed chunk in pieces.

    Args:
        values: (image, class, row, col).
        note: what stands behind them, of at most `NOTE_BYTES`.
    """
    content = np.append(pack_maps(values), np.frombuffer(note, np.uint8))
    return [content, checksum(content).to_bytes(CHECKSUM_BYTES, "little")]


def pack_maps(values: Array) -> Array:
    """Return maps (image, class, row, col) of bytes, packed."""
    values = np.ascontiguousarray(values, np.uint8)
    packed = np.empty(packed_limit(values.shape), np.uint8)
    size = _pack_function()(values.ctypes.data, _planes(values.shape), packed.ctypes.data)
    return packed[:size]


def unpack_maps(packed: Array, shape: Sequence[int]) -> Array:
    """Return maps of bytes as they were packed; images that are not there are zeros.

    Args:
        packed: what `pack_maps` returned.
        shape: (image, class, row, col).
    """
    values = np.zeros(shape, np.uint8)
    unpack, maps = _unpack_bytes_function(), _planes((1, *shape[1:]))
    for image in values:
        if not len(packed):
            break
        passed = unpack(packed.ctypes.data, len(packed), maps, image.ctypes.data)
        if passed < 0:
            raise ValueError("packed maps are too short")
        packed = packed[passed:]
    return values


def packed_limit(shape: Sequence[int]) -> int:
    """Return the bytes that maps (image, class, row, col) take at most once they are packed."""
    return int(_limit_function()(_planes(shape)))


def checksum(content: Array) -> int:
    """Return the crc32c of bytes."""
    return int(_checksum_function()(0, content.ctypes.data, content.size))


class _Planes(ctypes.Structure):
    """What chunk_read.cpp calls `Planes`."""

    _fields_ = [(name, ctypes.c_int64) for name in ("planes", "rows", "cols", "paired")]


def _planes(shape: Sequence[int]) -> Any:
    """Describe maps (image, class, row, col); those of two classes are packed in pairs."""
    images, channels, rows, cols = shape
    return ctypes.byref(_Planes(images * channels, rows, cols, channels == 2))


@functools.cache
def _pack_function() -> Any:
    return library_function("planes_pack", INT64, POINTER, POINTER, POINTER)


@functools.cache
def _limit_function() -> Any:
    return library_function("planes_limit", INT64, POINTER)


@functools.cache
def _unpack_function() -> Any:
    return library_function(
        "planes_unpack", INT64, POINTER, INT64, POINTER, ctypes.c_int32, POINTER
    )


@functools.cache
def _unpack_bytes_function() -> Any:
    return library_function("planes_unpack_bytes", INT64, POINTER, INT64, POINTER, POINTER)


@functools.cache
def _checksum_function() -> Any:
    return library_function("chunk_checksum", ctypes.c_uint32, ctypes.c_uint32, POINTER, INT64)


def library_function(name: str, result: Any, *arguments: Any) -> Any:
    """Return a function of the compiled library, with its types."""
    function = getattr(load_library(LIBRARY), name)
    function.restype, function.argtypes = result, arguments
    return function
