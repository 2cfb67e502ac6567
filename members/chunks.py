"""Zarr arrays that are not sharded, in files or in an object store.

A chunk is its values, little-endian, and their crc32c; for packed ones see `members.packed_chunks`.
Zarr's own code, made for any codec, takes milliseconds to open an array, and new memory at each
step; a store may hold an array for each of hundreds of sizes. Here a chunk goes through the cache
in small batches, from its file to float32 in the memory where it is wanted, without Python's lock.

In a folder, a marker file says that a chunk was written whole, since Zarr reads a missing chunk as
zeros. An object exists whole or not at all, so it needs no marker; it is fetched by one request and
read like a file.

References:
    Zarr core specification, version 3: https://zarr-specs.readthedocs.io/en/latest/v3/core/
"""

import contextlib
import ctypes
import functools
import json
import math
import os
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from io import FileIO
from pathlib import Path
from typing import Any

import numpy as np

from evaluation.core.errors import BadRun, shorten
from evaluation.core.native import load_library
from evaluation.core.types import Array
from members.object_store import read_object, read_tail, size_of, sizes_under, write_object

CHECKSUM_BYTES = 4
NOTE_BYTES = 16
"""What may stand behind the maps of a packed chunk; see `members.top_chunks`."""
DTYPE_CODES = {"float16": 0, "uint8": 1, "float32": 2}
LIBRARY = Path(__file__).with_name("chunk_read.so")

PIECE_VALUES = 1 << 20
"""Values of each member that are worked on at a time: few calls, and their sum stays in the last
level of the cache."""

ARRAY, DONE, PARTIAL = "maps.zarr", "done", ".partial"
HEADER, HEADER_BYTES = "zarr.json", 1 << 20
SHAPE, CHUNK = "SHAPE", "CHUNK"

BIT_PLANES = "ens.bit_planes"
"""What Zarr calls the codec of packed chunks; `members.zarr_codec` gives it to Zarr."""


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


@dataclass(frozen=True)
class ArrayLayout:
    """A Zarr array of a store: images of one size, chunked by images.

    Args:
        name: within the store's group of arrays; empty where it is the store's only array.
        start: first image.
        shape: (image, class, row, col).
        chunk_images: images per chunk.
        dtype: of the values.
        packed: whether chunks are packed; see `members.packed_chunks`.
    """

    name: str
    start: int
    shape: tuple[int, int, int, int]
    chunk_images: int
    dtype: str
    packed: bool = False

    @property
    def image_values(self) -> int:
        """Values of one image."""
        return math.prod(self.shape[1:])

    @property
    def chunk_bytes(self) -> int:
        """Size of a chunk, checksum included; of a packed one, the most that it takes."""
        if self.packed:
            from members.packed_chunks import packed_limit

            packed = packed_limit((self.chunk_images, *self.shape[1:]))
            return packed + NOTE_BYTES + CHECKSUM_BYTES
        return (
            self.chunk_images * self.image_values * np.dtype(self.dtype).itemsize + CHECKSUM_BYTES
        )

    def check_chunk_size(self, size: int) -> None:
        """Check the size of a chunk's file in bytes.

        Raises:
            ValueError: no chunk of the array has it.
        """
        if size > self.chunk_bytes or (size < self.chunk_bytes and not self.packed):
            most = "at most " if self.packed else ""
            raise ValueError(f"{size} bytes, expected {most}{self.chunk_bytes}")

    @property
    def header_name(self) -> str:
        """Name of the array's header within the store."""
        return f"{self.name}/{HEADER}" if self.name else HEADER

    def chunk_name(self, number: int) -> str:
        """Return the name of a chunk within the store; chunks follow each other along the images.

        A folder in a folder for each of a few images would take longer than their maps.
        """
        return f"{self.name}/c.{number}.0.0.0" if self.name else f"c/{number}/0/0/0"

    def header(self) -> bytes:
        """Return the array's metadata, as Zarr writes them."""
        text = _header_text(self.dtype, self.packed, "." if self.name else "/")
        for mark, lengths in ((SHAPE, self.shape), (CHUNK, (self.chunk_images, *self.shape[1:]))):
            text = text.replace(f'"{mark}"', str(list(lengths)))
        return text.encode()

    def check_header(self, content: bytes) -> None:
        """Check that an array's header says what its store does.

        Raises:
            ValueError: it does not, or is none.
        """
        if len(content) > HEADER_BYTES:
            raise ValueError(f"a header of more than {HEADER_BYTES} bytes")
        if content == self.header():
            return
        found, expected = json.loads(content), json.loads(self.header())
        if not isinstance(found, dict):
            raise ValueError(f"{self.header_name} holds no metadata of an array")
        for what, keys in (
            ("an array of", ("shape", "chunk_grid", "data_type")),
            ("an array that calls its chunks", ("chunk_key_encoding",)),
            ("an array encoded by", ("codecs",)),
        ):
            one, other = ([document.get(key) for key in keys] for document in (found, expected))
            if one != other:
                raise ValueError(f"{what} {_short(one)}, expected {_short(other)}")


class LocalChunks:
    """The arrays of a store in the store's folder: headers and chunks by name, and markers.

    `place` is the folder of the arrays.
    """

    def __init__(self, folder: Path) -> None:
        self._folder, self.place, self._done = folder, str(folder / ARRAY), str(folder / DONE)

    def create(self, layouts: Sequence[ArrayLayout]) -> None:
        """Write the headers of empty arrays in place of what is there."""
        for path in (self.place, self._done):
            shutil.rmtree(path, ignore_errors=True)
            Path(path).mkdir()
        for name, content in _headers(layouts):
            path = f"{self.place}/{name}"
            if "/" in name:
                os.mkdir(path.removesuffix(f"/{HEADER}"))  # noqa: PTH102
            with FileIO(path, "w") as file:
                file.write(content)

    def read_header(self, name: str) -> bytes:
        """Return a header, or a byte more than it may have."""
        with FileIO(f"{self.place}/{name}") as file:
            return file.read(HEADER_BYTES + 1)

    def size_of(self, chunk: str) -> int | None:
        """Return the size of a chunk in bytes; None where it does not exist."""
        with contextlib.suppress(FileNotFoundError):
            return os.stat(f"{self.place}/{chunk}").st_size  # noqa: PTH116
        return None

    def missing(self, chunks: Mapping[int, str]) -> list[int]:
        """List those first images whose chunk, by name, was not written whole yet."""
        done = set(os.listdir(self._done))  # noqa: PTH208
        return [image for image in chunks if str(image) not in done]

    def discard_partial(self) -> None:
        """Remove chunks that a process was writing when it was killed."""
        for partial in Path(self.place).rglob(f"*{PARTIAL}"):
            partial.unlink()

    def tail(self, chunk: str, size_bytes: int) -> bytes:
        """Return the last bytes of a chunk."""
        with FileIO(f"{self.place}/{chunk}") as file:
            file.seek(-size_bytes, os.SEEK_END)
            return file.read()

    def write(self, chunk: str, image: int, content: Sequence[Any]) -> None:
        """Write a chunk, given in pieces, whose first image this is."""
        path = f"{self.place}/{chunk}"
        if "/0/" in chunk:
            Path(path).parent.mkdir(parents=True, exist_ok=True)
        partial = f"{path}.{os.getpid()}{PARTIAL}"
        with open(partial, "wb") as file:  # noqa: PTH123
            file.writelines(content)
        os.replace(partial, path)  # noqa: PTH105
        FileIO(f"{self._done}/{image}", "w").close()

    def open(self, chunk: str, image: int, size_bytes: int) -> tuple[FileIO, str]:
        """Open a chunk whose first image this is; return its file and path.

        Raises:
            BadRun: it was never written.
            DamagedChunk: it was written and does not exist.
        """
        path = f"{self.place}/{chunk}"
        if not os.path.exists(f"{self._done}/{image}"):  # noqa: PTH110
            raise BadRun(f"{self._folder}: images from {image} on are missing; run again")
        try:
            return FileIO(path), path
        except FileNotFoundError:
            raise DamagedChunk(f"{path} is not there") from None


class RemoteChunks:
    """The arrays of a store under a URL, its `place`; the methods are those of `LocalChunks`.

    Raises:
        Unreachable: the object store does not answer, or refuses; every method may raise it.
    """

    def __init__(self, url: str) -> None:
        self.place = url

    def create(self, layouts: Sequence[ArrayLayout]) -> None:
        """Put the headers of empty arrays."""
        for name, content in _headers(layouts):
            write_object(f"{self.place}/{name}", content)

    def read_header(self, name: str) -> bytes:
        """Return a header, or a byte more than it may have.

        Raises:
            DamagedChunk: there is none.
        """
        header = read_object(f"{self.place}/{name}", HEADER_BYTES)
        if header is None:
            raise DamagedChunk(f"{self.place}/{name} is not there")
        return header

    def size_of(self, chunk: str) -> int | None:
        """Return the size of a chunk in bytes; None where it does not exist."""
        return size_of(f"{self.place}/{chunk}")

    def missing(self, chunks: Mapping[int, str]) -> list[int]:
        """List those first images whose chunk, by name, was not written yet."""
        written = sizes_under(self.place)
        return [image for image, chunk in chunks.items() if chunk not in written]

    def discard_partial(self) -> None:
        """Do nothing: no object exists in part."""

    def tail(self, chunk: str, size_bytes: int) -> bytes:
        """Return the last bytes of a chunk."""
        return read_tail(f"{self.place}/{chunk}", size_bytes)

    def write(self, chunk: str, image: int, content: Sequence[Any]) -> None:
        """Put a chunk, given in pieces."""
        write_object(f"{self.place}/{chunk}", b"".join(content))

    def open(self, chunk: str, image: int, size_bytes: int) -> tuple[FileIO, str]:
        """Fetch a chunk into a file without a name; return the file and the chunk's URL.

        Args:
            chunk: its name.
            image: its first image.
            size_bytes: expected, checksum included; of a larger object one byte more is fetched.

        Raises:
            DamagedChunk: it does not exist.
        """
        url = f"{self.place}/{chunk}"
        content = read_object(url, size_bytes)
        if content is None:
            raise DamagedChunk(f"{url} is not there")
        file = FileIO(os.memfd_create("chunk"), "r+b")
        rest = memoryview(content)
        while rest:
            rest = rest[file.write(rest) :]
        file.seek(0)
        return file, url


def encode_chunk(layout: ArrayLayout, values: Array) -> list[Any]:
    """Return the content of a chunk in pieces; the last chunk of an array is filled up by zeros.

    Args:
        layout: of the array.
        values: of the chunk's images, of the array's type.
    """
    import google_crc32c

    values = np.ascontiguousarray(values, np.dtype(layout.dtype).newbyteorder("<"))
    pieces: list[Any] = [values.reshape(-1).view(np.uint8)]
    if lacking := layout.chunk_bytes - CHECKSUM_BYTES - values.nbytes:
        pieces.append(bytes(lacking))
    checksum = 0
    for piece in pieces:
        checksum = google_crc32c.extend(checksum, piece)
    return [*pieces, checksum.to_bytes(CHECKSUM_BYTES, "little")]


def _headers(layouts: Sequence[ArrayLayout]) -> list[tuple[str, bytes]]:
    """Return name and content of each header: several arrays form a group."""
    group = {"attributes": {}, "zarr_format": 3, "node_type": "group"}
    headers = [(layout.header_name, layout.header()) for layout in layouts]
    return [(HEADER, json.dumps(group).encode()), *headers] if layouts[0].name else headers


@functools.cache
def _header_text(dtype: str, packed: bool, separator: str) -> str:
    """Return an array's header with marks in place of its shape and that of its chunks."""
    endian = {} if dtype == "uint8" else {"configuration": {"endian": "little"}}
    content = {"name": BIT_PLANES} if packed else {"name": "bytes", **endian}
    document = {
        "shape": SHAPE,
        "data_type": dtype,
        "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": CHUNK}},
        "chunk_key_encoding": {"name": "default", "configuration": {"separator": separator}},
        "fill_value": 0 if dtype == "uint8" else 0.0,
        "codecs": [content, {"name": "crc32c"}],
        "attributes": {},
        "dimension_names": ["image", "class", "row", "col"],
        "zarr_format": 3,
        "node_type": "array",
        "storage_transformers": [],
    }
    return json.dumps(document)


def _short(values: Sequence[Any]) -> str:
    return shorten(", ".join(map(json.dumps, values)))
