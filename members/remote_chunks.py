"""Chunks of a store in an object store.

An object is there whole or not at all, so there are no markers. Zarr makes chunks in memory, and
they are put as they are; a chunk is fetched by one request and read like a file.
"""

import os
from io import FileIO
from typing import Any

import zarr
from zarr.core.buffer.cpu import Buffer
from zarr.storage import MemoryStore

from evaluation.ground.arrays import Array
from members.chunks import DamagedChunk, chunk_name
from members.objects import read_object, weight_of, weights_under, write_object

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
        weight = weight_of(first)
        if weight is not None:
            return first, weight
        others = weights_under(f"{self._at}/c").items()
        return next(((f"{self._at}/c/{name}", weight) for name, weight in others), None)

    def missing(self, blocks: list[slice]) -> list[slice]:
        """List those of the store's blocks that were not written yet."""
        there = {f"c/{name}" for name in weights_under(f"{self._at}/c")}
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
