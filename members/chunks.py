"""Chunks of a Zarr array that is neither sharded nor compressed, in files or in an object store.

A chunk is its values, little-endian, and their crc32c. Zarr's own reader, made for any codec, takes
new memory at each step; here a chunk goes through the cache in small batches, from its file to
float32 in the memory where it is wanted, without Python's lock.

In a folder, a marker file says that a chunk was written whole, since Zarr reads a missing chunk as
zeros. An object exists whole or not at all, so it needs no marker; it is fetched by one request and
read like a file.
"""

import ctypes
import functools
import os
from collections.abc import Callable
from io import FileIO
from pathlib import Path
from typing import Any

import numpy as np

from evaluation.core.errors import BadRun
from evaluation.core.native import load_library
from evaluation.core.types import Array
from members.object_store import read_object, size_of, sizes_under, write_object

CHECKSUM_BYTES = 4
DTYPE_CODES = {"float16": 0, "uint8": 1, "float32": 2}
LIBRARY = Path(__file__).with_name("chunk_read.so")

PIECE_VALUES = 1 << 20
"""Values of each member that are worked on at a time: few calls, and their sum stays in the last
level of the cache."""

ARRAY, DONE = "maps.zarr", "done"
HEADER, HEADER_BYTES = "zarr.json", 1 << 20


class DamagedChunk(Exception):
    """A chunk that does not hold what was written."""


class ChunkFile:
    """The file of a chunk, read from front to back; a file too short raises `DamagedChunk`.

    Args:
        file: opened, at its beginning; `close` and `finish` close it.
        name: what errors call it: its path or URL.
        dtype: of its values: float16, float32, or uint8 for probabilities scaled by 255.
        count: how many values it holds.
    """

    def __init__(self, file: FileIO, name: str, dtype: str, count: int) -> None:
        self._file, self._name = file, name
        self._dtype_code = DTYPE_CODES[dtype]
        self._left = count
        self._checksum = ctypes.c_uint32(0)

    def read_into(self, out: Array, *, add: bool = False) -> None:
        """Read the next values as float32; not to be used before `finish` verified the checksum.

        Args:
            out: contiguous.
            add: add to the values of `out` instead of replacing them.
        """
        self._next(out.size, out.ctypes.data, add)

    def skip(self, count: int) -> None:
        """Read values for the checksum only."""
        self._next(count, None, add=False)

    def finish(self) -> None:
        """Read what is left, verify the checksum, and close the file.

        Raises:
            DamagedChunk: the checksum does not match, or the file is too short or too long.
        """
        self.skip(self._left)
        stored = self._file.read(CHECKSUM_BYTES + 1)
        if len(stored) != CHECKSUM_BYTES:
            wrong = "short" if len(stored) < CHECKSUM_BYTES else "long"
            raise DamagedChunk(f"{self._name} is too {wrong}")
        if int.from_bytes(stored, "little") != self._checksum.value:
            raise DamagedChunk(f"the checksum of {self._name} does not match")
        self.close()

    def close(self) -> None:
        """Close the file early."""
        self._file.close()

    def _next(self, count: int, address: int | None, add: bool) -> None:
        checksum = ctypes.byref(self._checksum)
        if _read()(self._file.fileno(), count, self._dtype_code, add, address, checksum):
            raise DamagedChunk(f"{self._name} is too short")
        self._left -= count


def copy_into(maps: Array, out: Array) -> None:
    """Copy maps into `out`, unless that is what they are."""
    if maps is not out:
        np.copyto(out, maps)


@functools.cache
def _read() -> Callable[..., int]:
    """Return the compiled function; see chunk_read.cpp."""
    function: Callable[..., int] = load_library(LIBRARY).chunk_read
    function.restype = ctypes.c_int  # type: ignore[attr-defined]
    function.argtypes = (  # type: ignore[attr-defined]
        ctypes.c_int,
        ctypes.c_int64,
        ctypes.c_int32,
        ctypes.c_int32,
        ctypes.c_void_p,
        ctypes.POINTER(ctypes.c_uint32),
    )
    return function


class LocalChunks:
    """The Zarr array of a store, in the store's folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.array = _open_array(folder / ARRAY)

    @staticmethod
    def create(folder: Path, **header: Any) -> None:
        """Create an empty array; `header` is of `zarr.create_array`."""
        import zarr

        zarr.create_array(folder / ARRAY, overwrite=True, **header)
        (folder / DONE).mkdir(exist_ok=True)

    def sample_chunk(self) -> tuple[str, int] | None:
        """Return name and size in bytes of any chunk that exists; None where none does."""
        chunk = next((self._folder / ARRAY / "c").glob("*/0/0/0"), None)
        return None if chunk is None else (str(chunk), chunk.stat().st_size)

    def missing_blocks(self, blocks: list[slice]) -> list[slice]:
        """List those of the store's blocks that were not written whole yet."""
        done = self._folder / DONE
        return [block for block in blocks if not (done / str(block.start)).exists()]

    def discard_partial(self) -> None:
        """Remove chunks that a process was writing when it was killed; Zarr would leave them."""
        for partial in (self._folder / ARRAY).rglob("*.partial"):
            partial.unlink()

    def write(self, block: slice, values: Array) -> None:
        """Write a chunk."""
        self.array[block] = values
        (self._folder / DONE / str(block.start)).touch()

    def open(self, number: int, size_bytes: int) -> tuple[FileIO, str]:
        """Open a chunk; return its file and path.

        Raises:
            BadRun: it was never written.
            DamagedChunk: it was written and does not exist.
        """
        start = number * self.array.chunks[0]
        if not (self._folder / DONE / str(start)).exists():
            raise BadRun(f"{self._folder}: images from {start} on are missing; run again")
        path = self._folder / ARRAY / _chunk_name(number)
        try:
            return path.open("rb", buffering=0), str(path)
        except FileNotFoundError:
            raise DamagedChunk(f"{path} is not there") from None


class RemoteChunks:
    """The Zarr array of a store, under a URL.

    Raises:
        DamagedChunk: it has no header.
        Unreachable: the object store does not answer, or refuses; every method may raise it.
    """

    def __init__(self, url: str) -> None:
        from zarr.core.buffer.cpu import Buffer
        from zarr.storage import MemoryStore

        self._url = url
        header = read_object(f"{url}/{HEADER}", HEADER_BYTES)
        if header is None:
            raise DamagedChunk(f"{url}/{HEADER} is not there")
        # Zarr makes chunks in memory; they are put as they are.
        self._memory: dict[str, Any] = {HEADER: Buffer.from_bytes(header)}
        self.array = _open_array(MemoryStore(self._memory))
        name = self.array.metadata.encode_chunk_key((0, 0, 0, 0))
        if name != _chunk_name(0):
            raise DamagedChunk(f"{url} calls its chunks {name}, expected {_chunk_name(0)}")

    @staticmethod
    def create(url: str, **header: Any) -> None:
        """Create an empty array; `header` is of `zarr.create_array`."""
        import zarr
        from zarr.storage import MemoryStore

        memory: dict[str, Any] = {}
        zarr.create_array(MemoryStore(memory), **header)
        write_object(f"{url}/{HEADER}", memory[HEADER].to_bytes())

    def sample_chunk(self) -> tuple[str, int] | None:
        """Return name and size in bytes of any chunk that exists; None where none does."""
        first = f"{self._url}/{_chunk_name(0)}"
        size = size_of(first)
        if size is not None:
            return first, size
        others = sizes_under(f"{self._url}/c").items()
        return next(((f"{self._url}/c/{name}", size) for name, size in others), None)

    def missing_blocks(self, blocks: list[slice]) -> list[slice]:
        """List those of the store's blocks that were not written yet."""
        written = {f"c/{name}" for name in sizes_under(f"{self._url}/c")}
        return [block for k, block in enumerate(blocks) if _chunk_name(k) not in written]

    def discard_partial(self) -> None:
        """Do nothing: no object exists in part."""

    def write(self, block: slice, values: Array) -> None:
        """Write a chunk."""
        self.array[block] = values
        name = _chunk_name(block.start // self.array.chunks[0])
        write_object(f"{self._url}/{name}", self._memory.pop(name).to_bytes())

    def open(self, number: int, size_bytes: int) -> tuple[FileIO, str]:
        """Fetch a chunk into a file without a name; return the file and the chunk's URL.

        Args:
            number: of the chunk.
            size_bytes: expected, checksum included; of a larger object one byte more is fetched.

        Raises:
            DamagedChunk: it does not exist.
        """
        url = f"{self._url}/{_chunk_name(number)}"
        content = read_object(url, size_bytes)
        if content is None:
            raise DamagedChunk(f"{url} is not there")
        file = FileIO(os.memfd_create("chunk"), "r+b")
        rest = memoryview(content)
        while rest:
            rest = rest[file.write(rest) :]
        file.seek(0)
        return file, url


def _open_array(store: Any) -> Any:
    import zarr

    # Zarr leaves chunks of zeros out, which would then look like lost ones.
    return zarr.open_array(store, mode="r+").with_config({"write_empty_chunks": True})


def _chunk_name(number: int) -> str:
    """Return the name of a chunk within its array; chunks follow each other along the images."""
    return f"c/{number}/0/0/0"
