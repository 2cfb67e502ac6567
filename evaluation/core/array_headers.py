"""What array files claim to hold, held against what they weigh, before anything is made of it.

Arrays come from strangers. A header of a hundred bytes may claim more pixels than memory has, and
an archive may unpack to a thousand times its own size, or hold names that lead elsewhere.
"""

import ast
import io
import math
import struct
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
"""Magic, version and length stand before the header."""

DIRECTORY_BYTES = 1 << 20
"""So long a list of contents names ten thousand arrays."""

DOCUMENT_BYTES = 1 << 26
"""So much may a document weigh that is read whole: the ids of a million images."""

FREE_BYTES, RATIO = 1 << 28, 200
"""An archive may unpack to 256 MiB, and beyond that to so many times its weight. Label maps go to a
hundredth; DEFLATE ends at 1032."""

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
"""What `zipfile` raises on bytes that are no archive of arrays."""


@dataclass(frozen=True)
class Header:
    """The head of a `.npy`.

    Args:
        shape: of the array.
        dtype: of its values.
    """

    shape: tuple[int, ...]
    dtype: np.dtype[Any]


def read_header(start: bytes, weight: int, name: str) -> Header:
    """Read the head of a `.npy`.

    Args:
        start: the first `HEAD_BYTES` of the file, or all there are.
        weight: how many bytes the file has in all, head included.
        name: what errors call it.

    Raises:
        BadData: no such head, Python objects, or a claim to hold another number of bytes.
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
        header = _parsed(file.read(length).decode("latin-1"))
    except (*DAMAGED, SyntaxError, TypeError, RecursionError, MemoryError) as error:
        reason = " ".join(str(error).split())
        raise BadData(
            f"{name} is no readable .npy array ({reason}); write it again with np.save"
        ) from None
    if header.dtype.hasobject:
        raise BadData(f"{name} holds Python objects, which are never unpickled; expected numbers")
    claimed = math.prod(header.shape) * max(header.dtype.itemsize, 1)
    there = weight - file.tell()
    if claimed != there:
        raise BadData(
            f"{name} is no readable .npy array: {header.dtype} of shape {header.shape} are"
            f" {claimed} bytes, it holds {there}; write it again with np.save"
        )
    return header


@contextmanager
def open_npz(path: Path) -> Iterator[tuple[zipfile.ZipFile, dict[str, zipfile.ZipInfo]]]:
    """Open a `.npz`, and give the archive and its arrays by their names.

    Raises:
        BadData: missing, damaged, other things than arrays inside, or claims out of proportion.
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
    """Read the head of one array of a `.npz`, without unpacking it.

    Raises:
        BadData: no such array, or one that is refused by `open_npz` or `read_header`.
    """
    with open_npz(path) as (archive, arrays):
        if key not in arrays:
            raise BadData(f"{path} holds {', '.join(arrays)}; expected an array {key!r}")
        with archive.open(arrays[key]) as file:
            return read_header(file.read(HEAD_BYTES), arrays[key].file_size, f"{path} ({key})")


class _BoundedReader(io.FileIO):
    """A file that gives no more at a time than the longest list of contents."""

    def read(self, size: int | None = -1, /) -> bytes:
        if size is not None and size > DIRECTORY_BYTES:
            raise ValueError(f"its list of contents claims {size} bytes")
        return super().read(size)


def _parsed(text: str) -> Header:
    document = ast.literal_eval(text.strip())
    if not isinstance(document, dict) or set(document) != {"descr", "fortran_order", "shape"}:
        raise ValueError("its header names no descr, fortran_order and shape")
    shape = document["shape"]
    if not isinstance(shape, tuple) or any(type(n) is not int or n < 0 for n in shape):
        raise ValueError(f"its shape is {str(shape)[:80]}")
    return Header(shape, np.lib.format.descr_to_dtype(document["descr"]))


def _arrays(path: Path, members: list[zipfile.ZipInfo]) -> dict[str, zipfile.ZipInfo]:
    """Return the members by their arrays' names; refuse what np.savez does not write."""
    found: dict[str, zipfile.ZipInfo] = {}
    for member in members:
        name = member.filename
        if not name.endswith(SUFFIX):
            raise BadData(f"{path} holds {name!r}; expected arrays (NAME{SUFFIX}) alone")
        inside = PurePosixPath(name)
        if inside.is_absolute() or ".." in inside.parts:
            raise BadData(f"{path} holds {name!r}, a path that leaves it; rename it")
        if member.compress_type not in METHODS or member.flag_bits & ENCRYPTED:
            raise BadData(
                f"{path}: {name!r} is encrypted or packed by other means than np.savez has; write"
                " it again with np.savez_compressed"
            )
        if name.removesuffix(SUFFIX) in found:
            raise BadData(f"{path} holds {name!r} twice; write it again with np.savez")
        found[name.removesuffix(SUFFIX)] = member
    claimed, weight = sum(member.file_size for member in members), path.stat().st_size
    if claimed > max(FREE_BYTES, RATIO * weight):
        raise BadData(
            f"{path} weighs {weight} bytes and would unpack to {claimed}; expected {RATIO} times"
            " its weight at most: if that is meant, unpack it and give the .npy"
        )
    return found
