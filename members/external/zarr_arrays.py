"""Zarr arrays from strangers: known codecs, chunks no larger than the array, packed or not.

Zarr's codecs, kept from unpacking more than a chunk holds.

A chunk's length is known from the array's metadata, and what it is packed by tells, or can be made
to tell, what it would unpack to. The codecs themselves believe it and take the memory.
"""

import math
import struct
import zlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from numcodecs.abc import Codec  # type: ignore[import-untyped]
from zarr.abc.codec import BytesBytesCodec
from zarr.codecs import ShardingCodec

from evaluation.core.array_headers import DOCUMENT_BYTES
from evaluation.core.errors import BadMaps
from evaluation.core.files import check_no_external_links, read_json
from evaluation.core.types import Array

FREE_BYTES = 1 << 24
"""So much may be unpacked of any chunk, checksums and all: few are unpacked at a time."""

PIECE = 1 << 16
GZIP_OR_ZLIB = 47
"""What tells zlib to take either, with windows of any size."""

ZSTD, SKIPPED, SKIPPED_MASK = 0xFD2FB528, 0x184D2A50, 0xFFFFFFF0
ZSTD_BLOCK = 1 << 17
"""A block's most bytes."""

RAW, REPEATED = 0, 1


def bounded(array: Any) -> Any:
    """Return a Zarr array of version 2 or 3 that refuses chunks which would unpack to too much.

    Args:
        array: a `zarr.Array`, whose chunks may be of any size that its metadata say.
    """
    metadata, size = array.metadata, array.dtype.itemsize
    if metadata.zarr_format == 2:
        limit = math.prod(metadata.chunks) * size
        wrapped = {
            "filters": metadata.filters and [_Version2(f, limit) for f in metadata.filters],
            "compressor": metadata.compressor and _Version2(metadata.compressor, limit),
        }
    else:
        wrapped = {"codecs": [_version_3(codec) for codec in metadata.codecs]}
    return zarr.Array(zarr.AsyncArray(replace(metadata, **wrapped), array.store_path))


def _version_3(codec: Any) -> Any:
    if isinstance(codec, ShardingCodec):
        return replace(codec, codecs=tuple(_version_3(inner) for inner in codec.codecs))
    return _Version3(codec) if isinstance(codec, BytesBytesCodec) else codec


@dataclass(frozen=True)
class _Version3(BytesBytesCodec):
    inner: BytesBytesCodec

    @property
    def is_fixed_size(self) -> bool:  # type: ignore[override]
        return self.inner.is_fixed_size

    def to_dict(self) -> Any:
        return self.inner.to_dict()

    def evolve_from_array_spec(self, array_spec: Any) -> "_Version3":
        return replace(self, inner=self.inner.evolve_from_array_spec(array_spec))

    def compute_encoded_size(self, input_byte_length: int, chunk_spec: Any) -> int:
        return self.inner.compute_encoded_size(input_byte_length, chunk_spec)

    async def _decode_single(self, chunk_bytes: Any, chunk_spec: Any) -> Any:
        limit = math.prod(chunk_spec.shape) * chunk_spec.dtype.to_native_dtype().itemsize
        refuse_more(str(self.to_dict()["name"]), chunk_bytes.as_numpy_array(), limit)
        return await self.inner._decode_single(chunk_bytes, chunk_spec)


class _Version2(Codec):  # type: ignore[misc]
    codec_id = "bounded"

    def __init__(self, inner: Any, limit: int) -> None:
        self._inner, self._limit = inner, limit

    def encode(self, buf: Any) -> Any:
        return self._inner.encode(buf)

    def decode(self, buf: Any, out: Any = None) -> Any:
        refuse_more(self._inner.codec_id, buf, self._limit)
        return self._inner.decode(buf, out)


def refuse_more(codec: str, packed: Any, limit: int) -> None:
    """Refuse bytes that would unpack to more than a chunk holds.

    Args:
        codec: name of what packed them; others than compressors do not make more of them.
        packed: the bytes, as any buffer.
        limit: how many the chunk holds.

    Raises:
        ValueError: they would, or cannot be what the codec writes.
    """
    unpacked = UNPACKED.get(codec)
    if unpacked is None:
        return
    content = memoryview(np.ascontiguousarray(packed)).cast("B")  # type: ignore[arg-type]
    total = 0
    try:
        for more in unpacked(content):
            total += more
            if total > max(limit, FREE_BYTES):
                raise ValueError(f"a chunk of {limit} bytes would unpack to {total} or more")
    except (struct.error, IndexError, zlib.error):
        raise ValueError(f"a chunk that is not packed by {codec}") from None


def _inflated(packed: memoryview) -> Iterator[int]:
    """Unpack piece by piece, and keep nothing; members may stand one after the other."""
    rest = bytes(packed)
    while rest.strip(b"\0"):
        stream = zlib.decompressobj(GZIP_OR_ZLIB)
        while not stream.eof:
            piece = stream.decompress(rest, PIECE)
            if not piece and not stream.eof:
                return  # cut short, as the codec will say
            yield len(piece)
            rest = stream.unconsumed_tail
        rest = stream.unused_data


def _zstd(packed: memoryview) -> Iterator[int]:
    """Yield what frames say they hold or, where they do not, their blocks could."""
    at = 0
    while at < len(packed):
        (magic,) = struct.unpack_from("<I", packed, at)
        if magic & SKIPPED_MASK == SKIPPED:
            at += 8 + struct.unpack_from("<I", packed, at + 4)[0]
            continue
        if magic != ZSTD:
            raise IndexError
        flags = packed[at + 4]
        single = flags >> 5 & 1
        at += 5 + (1 - single) + (0, 1, 2, 4)[flags & 3]
        width = (single, 2, 4, 8)[flags >> 6]
        if width:
            field = bytes(packed[at : at + width])
            yield int.from_bytes(field, "little") + 256 * (width == 2)
            return  # the codec takes no more memory than the first frame says
        last = 0
        while not last:
            head = int.from_bytes(packed[at : at + 3], "little")
            last, kind, size = head & 1 or at >= len(packed), head >> 1 & 3, head >> 3
            yield size if kind in (RAW, REPEATED) else ZSTD_BLOCK
            at += 3 + (1 if kind == REPEATED else size)
        at += 4 * (flags >> 2 & 1)


def _field(at: int) -> Callable[[memoryview], Iterator[int]]:
    """Return what reads a length of four bytes, which the codec believes."""
    return lambda packed: iter(struct.unpack_from("<I", packed, at))


UNPACKED: dict[str, Callable[[memoryview], Iterator[int]]] = {
    "gzip": _inflated,
    "zlib": _inflated,
    "zstd": _zstd,
    "blosc": _field(4),
    "lz4": _field(0),
}


ZARR_FILES = ("zarr.json", ".zarray")
DOCUMENTS = (*ZARR_FILES, ".zattrs")
CODECS = frozenset(
    ("blosc", "bytes", "crc32", "crc32c", "gzip", "lz4", "shuffle", "transpose", "zlib", "zstd")
) | {"sharding_indexed"}
"""Of those that numcodecs registers, none that unpickles or makes objects."""


@dataclass(frozen=True)
class ZarrMaps:
    """A Zarr array that is read like one of NumPy.

    Args:
        path: of the array.
        array: opened.
    """

    path: Path
    array: Any

    @property
    def shape(self) -> tuple[int, ...]:
        """The lengths of its axes."""
        return tuple(self.array.shape)

    @property
    def dtype(self) -> np.dtype[Any]:
        """The type of its values."""
        dtype: np.dtype[Any] = np.dtype(self.array.dtype)
        return dtype

    @property
    def ids(self) -> list[Any] | None:
        """Its attribute `ids`, where it is a list."""
        ids = self.array.attrs.get("ids")
        return ids if isinstance(ids, list) else None

    def __getitem__(self, places: Array) -> Array:
        """Read some images.

        Raises:
            BadMaps: a chunk that is damaged.
        """
        try:
            return np.asarray(self.array.oindex[places])
        except Exception as error:  # Zarr and each codec raise what they stumble over
            raise BadMaps(f"{self.path} is damaged ({_line(error)}); write it again") from None


def is_zarr(path: Path) -> bool:
    """Tell whether a folder says that it is a Zarr array."""
    return any((path / name).is_file() for name in ZARR_FILES)


def open_zarr(path: Path) -> ZarrMaps:
    """Open an array; nothing of its chunks is read yet.

    Raises:
        BadMaps: no array, a codec that is not known, or chunks larger than what they are part of.
        BadData: a link in it leads out.
    """
    check_no_external_links(path)
    refuse_heavy([path / name for name in DOCUMENTS], DOCUMENT_BYTES)
    document = read_json(next(path / name for name in ZARR_FILES if (path / name).is_file()))
    strange = sorted(set(_codecs(document)) - CODECS)
    if strange:
        raise BadMaps(
            f"{path} is packed by {strange[0]!r}; expected {', '.join(sorted(CODECS))}: write it"
            " again with Zarr's defaults"
        )
    try:
        opened = ZarrMaps(path, bounded(zarr.open_array(path, mode="r")))
        sides = opened.array.shards or opened.array.chunks
    except Exception as error:  # Zarr raises what malformed metadata make it stumble over
        raise BadMaps(
            f"{path} is no readable Zarr array ({_line(error)}); write it again"
        ) from None
    size, chunk = opened.dtype.itemsize, math.prod(sides)
    inside = math.prod(map(min, sides, opened.shape))
    if chunk * size > max(inside * size, FREE_BYTES):
        raise BadMaps(
            f"{path} claims chunks of {chunk} values, of {math.prod(opened.shape)} in all; write it"
            " again with chunks of a few images"
        )
    refuse_heavy(path.rglob("*"), 2 * chunk * size + FREE_BYTES)
    return opened


def refuse_heavy(files: Iterable[Path], most: int) -> None:
    """Refuse files that would be read whole and weigh more than they can have to.

    Raises:
        BadMaps: there is one.
    """
    for file in files:
        if file.is_file() and file.stat().st_size > most:
            raise BadMaps(
                f"{file} weighs {file.stat().st_size} bytes; expected {most} at most: write it"
                " again with chunks of a few images"
            )


def _codecs(document: Any) -> Iterator[str]:
    """Name the codecs of an array in version 2 or 3, those inside of shards too."""
    if not isinstance(document, dict):
        return
    for key in ("codecs", "index_codecs", "compressor", "filters"):
        found = document.get(key) or []
        for codec in found if isinstance(found, list) else [found]:
            inside = codec if isinstance(codec, dict) else {"name": codec}
            yield str(inside.get("id", inside.get("name")))
            yield from _codecs(inside.get("configuration"))


def _line(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__
