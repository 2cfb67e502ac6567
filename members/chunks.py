"""Chunks of a Zarr array that is neither sharded nor compressed: plain files, read as such.

Such a file holds values, little-endian, and their crc32c. Zarr's own way through it, made for
remote stores and any codec, takes new memory for each step; here a chunk goes through the cache in
small batches, from the file to float32 in the place where it is wanted, without Python's lock.

Chunks of a store in files beside its metadata.

A marker file says that a chunk was written whole, since one that was never written reads as zeros
in Zarr.

Chunks of a store in an object store.

An object is there whole or not at all, so there are no markers. Zarr makes chunks in memory, and
they are put as they are; a chunk is fetched by one request and read like a file.
"""

import ctypes
import functools
import os
from collections.abc import Callable
from io import FileIO
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from zarr.core.buffer.cpu import Buffer
from zarr.storage import MemoryStore

from evaluation.core.errors import BadRun
from evaluation.core.native import load_library
from evaluation.core.types import Array
from members.object_store import (
    read_object,
    size_of,
    sizes_under,
    write_object,
)

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
    """Return the name of a chunk within its array: all that follow each other are of images."""
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


def copy_into(maps: Array, place: Array) -> None:
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


MAPS, DONE = "maps.zarr", "done"


class LocalChunks:
    """The Zarr array of a store, in a folder.

    Args:
        folder: of the store.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        array: Any = zarr.open_array(folder / MAPS, mode="r+")
        # Zarr leaves chunks of zeros out, which would then look like lost ones.
        self.array = array.with_config({"write_empty_chunks": True})

    @staticmethod
    def create(folder: Path, **header: Any) -> None:
        """Create an empty array; `header` is of `zarr.create_array`."""
        zarr.create_array(folder / MAPS, overwrite=True, **header)
        (folder / DONE).mkdir(exist_ok=True)

    def one(self) -> tuple[str, int] | None:
        """Return the name and bytes of a chunk that is there, None where none is."""
        chunk = next((self._folder / MAPS / "c").glob("*/0/0/0"), None)
        return None if chunk is None else (str(chunk), chunk.stat().st_size)

    def missing(self, blocks: list[slice]) -> list[slice]:
        """List those of the store's blocks that were not written whole yet."""
        done = self._folder / DONE
        return [block for block in blocks if not (done / str(block.start)).exists()]

    def clear(self) -> None:
        """Remove chunks that a process was writing when it was killed; Zarr would leave them."""
        for left in (self._folder / MAPS).rglob("*.partial"):
            left.unlink()

    def write(self, block: slice, values: Array) -> None:
        """Write a chunk."""
        self.array[block] = values
        (self._folder / DONE / str(block.start)).touch()

    def open(self, number: int, weight: int) -> tuple[FileIO, str]:
        """Open a chunk, and say where it lies.

        Args:
            number: of the chunk.
            weight: its bytes, checksum included.

        Raises:
            BadRun: it was never written.
            DamagedChunk: it was written and is not there.
        """
        start = number * self.array.chunks[0]
        if not (self._folder / DONE / str(start)).exists():
            raise BadRun(f"{self._folder}: images from {start} on are missing; run again")
        path = self._folder / MAPS / chunk_name(number)
        try:
            return path.open("rb", buffering=0), str(path)
        except FileNotFoundError:
            raise DamagedChunk(f"{path} is not there") from None


HEADER = "zarr.json"
HEADER_BYTES = 1 << 20


class RemoteChunks:
    """The Zarr array of a store, under a URL.

    Args:
        at: the URL.

    Raises:
        DamagedChunk: it has no header.
        Unreachable: the object store does not answer, or refuses.
    """

    def __init__(self, at: str) -> None:
        self._at = at
        header = read_object(f"{at}/{HEADER}", HEADER_BYTES)
        if header is None:
            raise DamagedChunk(f"{at}/{HEADER} is not there")
        self._memory: dict[str, Any] = {HEADER: Buffer.from_bytes(header)}
        array: Any = zarr.open_array(MemoryStore(self._memory), mode="r+")
        self.array = array.with_config({"write_empty_chunks": True})
        name = array.metadata.encode_chunk_key((0, 0, 0, 0))
        if name != chunk_name(0):
            raise DamagedChunk(f"{at} calls its chunks {name}, expected {chunk_name(0)}")

    @staticmethod
    def create(at: str, **header: Any) -> None:
        """Create an empty array; `header` is of `zarr.create_array`."""
        memory: dict[str, Any] = {}
        zarr.create_array(MemoryStore(memory), **header)
        write_object(f"{at}/{HEADER}", memory[HEADER].to_bytes())

    def one(self) -> tuple[str, int] | None:
        """Return the name and bytes of a chunk that is there, None where none is."""
        first = f"{self._at}/{chunk_name(0)}"
        weight = size_of(first)
        if weight is not None:
            return first, weight
        others = sizes_under(f"{self._at}/c").items()
        return next(((f"{self._at}/c/{name}", weight) for name, weight in others), None)

    def missing(self, blocks: list[slice]) -> list[slice]:
        """List those of the store's blocks that were not written yet."""
        there = {f"c/{name}" for name in sizes_under(f"{self._at}/c")}
        return [block for k, block in enumerate(blocks) if chunk_name(k) not in there]

    def clear(self) -> None:
        """Do nothing: no object is there in part."""

    def write(self, block: slice, values: Array) -> None:
        """Write a chunk."""
        self.array[block] = values
        name = chunk_name(block.start // self.array.chunks[0])
        write_object(f"{self._at}/{name}", self._memory.pop(name).to_bytes())

    def open(self, number: int, weight: int) -> tuple[FileIO, str]:
        """Fetch a chunk into a file that has no name, and say where it lies.

        Args:
            number: of the chunk.
            weight: its bytes, checksum included; of one that has more, no more than that and one
                byte are fetched.

        Raises:
            DamagedChunk: it is not there.
            Unreachable: the object store does not answer, or refuses.
        """
        url = f"{self._at}/{chunk_name(number)}"
        content = read_object(url, weight)
        if content is None:
            raise DamagedChunk(f"{url} is not there")
        file = FileIO(os.memfd_create("chunk"), "r+b")
        rest = memoryview(content)
        while rest:
            rest = rest[file.write(rest) :]
        file.seek(0)
        return file, url
