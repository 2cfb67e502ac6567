"""Headers of `.npy` and `.npz` files, checked against the files' sizes before memory is allocated.

Array files are not trusted: a header of a hundred bytes may claim more pixels than memory has, and
an archive may unpack to a thousand times its own size, or hold names that lead out of its folder.
"""

import ast
import io
import math
import struct
import threading
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from evaluation.core.errors import BadData

SUFFIX = ".npy"
HEADER_BYTES = 10_000
"""NumPy's own limit for headers that are not trusted."""

HEAD_BYTES = HEADER_BYTES + 12
"""Magic, version and length come before the header."""

DIRECTORY_BYTES = 1 << 20
"""Longest directory of an archive: ten thousand arrays."""

DOCUMENT_BYTES = 1 << 26
"""Largest JSON file that is read whole: the ids of a million images."""

FREE_BYTES, RATIO = 1 << 28, 200
"""An archive may unpack to 256 MiB, and beyond that to this many times its size. Label maps shrink
to a hundredth; DEFLATE's maximum is 1032."""

PARSING = threading.Lock()
"""Held while a header is parsed: Python up to 3.11 counts the depth of `ast.parse` over all threads
together, so that two at once may raise SystemError (github.com/python/cpython/issues/106905)."""

LENGTHS = {(1, 0): "<H", (2, 0): "<I"}
METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
ENCRYPTED = 1
DAMAGED = (
    OSError,
    EOFError,
    ValueError,
    KeyError,
    RuntimeError,
    OverflowError,
    struct.error,
    zipfile.BadZipFile,
    zlib.error,
)
"""What `zipfile` raises on damaged archives."""


@dataclass(frozen=True)
class Header:
    """Shape and type of the array in a `.npy`."""

    shape: tuple[int, ...]
    dtype: np.dtype[Any]


def read_header(start: bytes, size_bytes: int, name: str) -> Header:
    """Read the header of a `.npy`.

    Args:
        start: the first `HEAD_BYTES` of the file, or all there are.
        size_bytes: of the whole file, header included.
        name: of the file in messages.

    Raises:
        BadData: no valid header, Python objects, or an array of another size than the file's.
    """
    file = io.BytesIO(start)
    try:
        version = np.lib.format.read_magic(file)
        if version not in LENGTHS:
            raise ValueError(f"version {version[0]}.{version[1]} of the format")
        field = file.read(struct.calcsize(LENGTHS[version]))
        (length,) = struct.unpack(LENGTHS[version], field)
        if length > HEADER_BYTES:
            raise ValueError(f"a header of {length} bytes, expected {HEADER_BYTES} at most")
        with PARSING:
            header = _parse_header(file.read(length).decode("latin-1"))
    except (*DAMAGED, SyntaxError, TypeError, RecursionError, MemoryError) as error:
        reason = " ".join(str(error).split())
        raise BadData(
            f"{name} is no readable .npy array ({reason}); write it again with np.save"
        ) from None
    if header.dtype.hasobject:
        raise BadData(f"{name} holds Python objects, which are never unpickled; expected numbers")
    claimed = math.prod(header.shape) * max(header.dtype.itemsize, 1)
    actual = size_bytes - file.tell()
    if claimed != actual:
        raise BadData(
            f"{name} is no readable .npy array: {header.dtype} of shape {header.shape} are"
            f" {claimed} bytes, it holds {actual}; write it again with np.save"
        )
    return header


@contextmanager
def open_npz(path: Path) -> Iterator[tuple[zipfile.ZipFile, dict[str, zipfile.ZipInfo]]]:
    """Open a `.npz`; give the archive and its entries by array name.

    Raises:
        BadData: missing, damaged, entries that are not arrays, or a suspicious unpacked size.
    """
    try:
        with _BoundedReader(path) as file, zipfile.ZipFile(file) as archive:
            yield archive, _arrays(path, archive.infolist())
    except FileNotFoundError:
        raise BadData(f"{path} is missing; expected a .npz file") from None
    except DAMAGED as error:
        reason = " ".join(str(error).split())
        raise BadData(
            f"{path} is no readable .npz ({reason}); write it again with np.savez"
        ) from None


def header_of(path: Path, key: str) -> Header:
    """Read the header of one array of a `.npz`, without unpacking it.

    Raises:
        BadData: no such array, or `open_npz` or `read_header` refuses it.
    """
    with open_npz(path) as (archive, arrays):
        if key not in arrays:
            raise BadData(f"{path} holds {', '.join(arrays)}; expected an array {key!r}")
        with archive.open(arrays[key]) as file:
            return read_header(file.read(HEAD_BYTES), arrays[key].file_size, f"{path} ({key})")


class _BoundedReader(io.FileIO):
    """A file that refuses to read more at a time than the longest directory."""

    def read(self, size: int | None = -1, /) -> bytes:
        if size is not None and size > DIRECTORY_BYTES:
            raise ValueError(f"its list of contents claims {size} bytes")
        return super().read(size)


def _parse_header(text: str) -> Header:
    header = ast.literal_eval(text.strip())
    if not isinstance(header, dict) or set(header) != {"descr", "fortran_order", "shape"}:
        raise ValueError("its header names no descr, fortran_order and shape")
    shape = header["shape"]
    if not isinstance(shape, tuple) or any(type(n) is not int or n < 0 for n in shape):
        raise ValueError(f"its shape is {str(shape)[:80]}")
    return Header(shape, np.lib.format.descr_to_dtype(header["descr"]))


def _arrays(path: Path, members: list[zipfile.ZipInfo]) -> dict[str, zipfile.ZipInfo]:
    """Return the entries by array name; refuse what np.savez does not write."""
    arrays: dict[str, zipfile.ZipInfo] = {}
    for member in members:
        name = member.filename
        if not name.endswith(SUFFIX):
            raise BadData(f"{path} holds {name!r}; expected arrays (NAME{SUFFIX}) alone")
        inside = PurePosixPath(name)
        if inside.is_absolute() or ".." in inside.parts:
            raise BadData(f"{path} holds {name!r}, a path that leads out of it; rename it")
        if member.compress_type not in METHODS or member.flag_bits & ENCRYPTED:
            raise BadData(
                f"{path}: {name!r} is encrypted, or compressed in a way that np.savez is not;"
                " write it again with np.savez_compressed"
            )
        if name.removesuffix(SUFFIX) in arrays:
            raise BadData(f"{path} holds {name!r} twice; write it again with np.savez")
        arrays[name.removesuffix(SUFFIX)] = member
    claimed, size_bytes = sum(member.file_size for member in members), path.stat().st_size
    if claimed > max(FREE_BYTES, RATIO * size_bytes):
        raise BadData(
            f"{path} is {size_bytes} bytes and would unpack to {claimed}; expected at most {RATIO}"
            " times its size: if that is intended, unpack it and give the .npy"
        )
    return arrays
