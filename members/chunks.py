"""Chunks of a Zarr array that is neither sharded nor compressed: plain files, read as such.

Such a file holds values, little-endian, and their crc32c. Zarr's own way through it, made for
remote stores and any codec, takes new memory for each step; here a chunk goes through the cache in
small batches, from the file to float32 in the place where it is wanted, without Python's lock.
"""

import ctypes
import functools
from collections.abc import Callable
from io import FileIO
from pathlib import Path

import numpy as np

from evaluation.ground.arrays import Array
from evaluation.ground.compiled import load_library

STEPS_UINT8 = 255
CHECKSUM_BYTES = 4
KINDS = {"float16": 0, "uint8": 1, "float32": 2}
LIBRARY = Path(__file__).with_name("chunk_read.so")

PIECE_VALUES = 1 << 20
"""So many values of each member are worked on at a time: few calls, and their sum stays in the last
level of the cache."""


class DamagedChunk(Exception):
    """A file that does not hold what was written."""


def chunk_name(number: int) -> str:
    """Return the name of a chunk within its array: all that follow each other are of pictures."""
    return f"c/{number}/0/0/0"


class ChunkFile:
    """The file of a chunk, read from front to back.

    Args:
        file: opened, at its beginning; `close` and `finish` close it.
        name: what errors call it: its path or URL.
        dtype: of its values: float16, float32, or uint8 for probabilities scaled by 255.
        count: how many values it holds.
    """

    def __init__(self, file: FileIO, name: str, dtype: str, count: int) -> None:
        self._file, self._name = file, name
        self._kind = KINDS[dtype]
        self._left = count
        self._checksum = ctypes.c_uint32(0)

    def read_into(self, out: Array, *, add: bool = False) -> None:
        """Read the next values as float32.

        Nothing may be done with them before `finish` has found the checksum of the whole right.

        Args:
            out: contiguous.
            add: to what lies in `out`, in place of replacing it.

        Raises:
            DamagedChunk: the file is too short.
        """
        self._next(out.size, out.ctypes.data, add)

    def skip(self, count: int) -> None:
        """Read values for the checksum only.

        Raises:
            DamagedChunk: the file is too short.
        """
        self._next(count, None, add=False)

    def finish(self) -> None:
        """Read what is left, compare the checksum, and close the file.

        Raises:
            DamagedChunk: it does not hold, or the file is too short or too long.
        """
        self.skip(self._left)
        stored = self._file.read(CHECKSUM_BYTES + 1)
        if len(stored) != CHECKSUM_BYTES:
            wrong = "short" if len(stored) < CHECKSUM_BYTES else "long"
            raise DamagedChunk(f"{self._name} is too {wrong}")
        if int.from_bytes(stored, "little") != self._checksum.value:
            raise DamagedChunk(f"the checksum of {self._name} does not hold")
        self.close()

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def _next(self, count: int, target: int | None, add: bool) -> None:
        checksum = ctypes.byref(self._checksum)
        if _read()(self._file.fileno(), count, self._kind, add, target, checksum):
            raise DamagedChunk(f"{self._name} is too short")
        self._left -= count


def put(maps: Array, place: Array) -> None:
    """Copy maps to a place, unless that is where they lie."""
    if maps is not place:
        np.copyto(place, maps)


@functools.cache
def _read() -> Callable[..., int]:
    """Return the compiled function; see chunk_read.cpp."""
    function = load_library(LIBRARY).chunk_read
    function.restype = ctypes.c_int
    function.argtypes = (
        ctypes.c_int,
        ctypes.c_int64,
        ctypes.c_int32,
        ctypes.c_int32,
        ctypes.c_void_p,
        ctypes.POINTER(ctypes.c_uint32),
    )
    found: Callable[..., int] = function
    return found
