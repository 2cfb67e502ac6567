"""Chunks of a store in files beside its metadata.

A marker file says that a chunk was written whole, since one that was never written reads as zeros
in Zarr.
"""

from io import FileIO
from pathlib import Path
from typing import Any

import zarr

from evaluation.ground.arrays import Array
from evaluation.ground.errors import BadRun
from members.chunks import DamagedChunk, chunk_name

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
            raise BadRun(f"{self._folder}: pictures from {start} on are missing; run again")
        path = self._folder / MAPS / chunk_name(number)
        try:
            return path.open("rb", buffering=0), str(path)
        except FileNotFoundError:
            raise DamagedChunk(f"{path} is not there") from None
