"""Chunks of a Zarr array that is neither sharded nor compressed: plain files, read as such.

Such a file holds values, little-endian, and their crc32c. Zarr's own way through it, made for
remote stores and any codec, takes new memory for each step; here a chunk goes through the cache in
pieces, from the file to float32 in the place where it is wanted.
"""

import threading
from pathlib import Path

import google_crc32c
import numpy as np

from evaluation.ground.arrays import Array

STEPS_UINT8 = 255
CHECKSUM_BYTES = 4

PIECE_VALUES = 1 << 18
"""So many values are read at a time; both they and their float32 stay in the cache."""

PART_VALUES = 32_000
"""So many torch converts without a second thread, which would be waited for on busy cores."""


class DamagedChunk(Exception):
    """A file that does not hold what was written."""


class _Piece(threading.local):
    """Memory for what a thread reads, used again and again."""

    def __init__(self) -> None:
        self.bytes = np.empty(PIECE_VALUES * np.dtype(np.float32).itemsize, np.uint8)


_PIECE = _Piece()


class ChunkFile:
    """The file of a chunk, read from front to back.

    Args:
        path: of the file.
        dtype: of its values: float16, float32, or uint8 for probabilities scaled by 255.
        count: how many values it holds.

    Raises:
        DamagedChunk: no such file.
    """

    def __init__(self, path: Path, dtype: str, count: int) -> None:
        self._path = path
        self._dtype = np.dtype(dtype).newbyteorder("<")
        self._left = count
        self._checksum = 0
        try:
            self._file = path.open("rb")
        except FileNotFoundError:
            raise DamagedChunk(f"{path} is not there") from None

    def read_into(self, out: Array) -> None:
        """Read the next values as float32.

        Nothing may be done with them before `finish` has found the checksum of the whole right.

        Args:
            out: contiguous.

        Raises:
            DamagedChunk: the file is too short.
        """
        flat = out.reshape(-1)
        for start in range(0, flat.size, PIECE_VALUES):
            piece = flat[start : start + PIECE_VALUES]
            _to_float32(self._next(piece.size), piece)

    def skip(self, count: int) -> None:
        """Read values for the checksum only.

        Raises:
            DamagedChunk: the file is too short.
        """
        for start in range(0, count, PIECE_VALUES):
            self._next(min(PIECE_VALUES, count - start))

    def finish(self) -> None:
        """Read what is left, compare the checksum, and close the file.

        Raises:
            DamagedChunk: it does not hold, or the file is too short or too long.
        """
        self.skip(self._left)
        stored = self._file.read(CHECKSUM_BYTES + 1)
        if len(stored) != CHECKSUM_BYTES:
            wrong = "short" if len(stored) < CHECKSUM_BYTES else "long"
            raise DamagedChunk(f"{self._path} is too {wrong}")
        if int.from_bytes(stored, "little") != self._checksum:
            raise DamagedChunk(f"the checksum of {self._path} does not hold")
        self.close()

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def _next(self, count: int) -> Array:
        piece = _PIECE.bytes[: count * self._dtype.itemsize]
        if self._file.readinto(piece.data) != len(piece):
            raise DamagedChunk(f"{self._path} is too short")
        self._left -= count
        unchanging = piece.view()  # the checksum takes no other
        unchanging.flags.writeable = False
        self._checksum = google_crc32c.extend(self._checksum, unchanging)
        return piece.view(self._dtype)


def _to_float32(stored: Array, out: Array) -> None:
    if stored.dtype == np.float16:
        _from_half(stored, out)
        return
    np.copyto(out, stored)
    if stored.dtype == np.uint8:
        out *= np.float32(1 / STEPS_UINT8)


def _from_half(stored: Array, out: Array) -> None:
    """Convert eight times as fast as NumPy does, and to the same bits."""
    import torch

    halves, wholes = torch.from_numpy(stored), torch.from_numpy(out)
    parts = zip(wholes.split(PART_VALUES), halves.split(PART_VALUES), strict=True)  # type: ignore[no-untyped-call]
    for whole, half in parts:
        whole.copy_(half)
