"""Read Zarr arrays from untrusted sources: known codecs, and chunks that fit into memory.

A chunk's size is known from the array's metadata, and compressed bytes state, or can be made to
state, what they unpack to. The codecs themselves trust them and allocate the memory, so sizes are
checked first.
"""

import math
import struct
import zlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from numcodecs.abc import Codec
from zarr.abc.codec import BytesBytesCodec
from zarr.codecs import ShardingCodec

from evaluation.core.array_headers import DOCUMENT_BYTES
from evaluation.core.errors import BadMaps
from evaluation.core.files import check_no_external_links, read_json
from evaluation.core.types import Array
from members.external.formats import ZARR_FILES

DOCUMENTS = (*ZARR_FILES, ".zattrs")
CODECS = frozenset(
    ("blosc", "bytes", "crc32", "crc32c", "gzip", "lz4", "shuffle", "transpose", "zlib", "zstd")
) | {"sharding_indexed"}
"""Of those that numcodecs registers, none that unpickles or makes objects."""

FREE_BYTES = 1 << 24
"""Any chunk may unpack to as many bytes, checksums included: few are unpacked at a time."""

PIECE = 1 << 16
GZIP_OR_ZLIB = 47
"""Makes zlib accept either, with windows of any size."""

ZSTD, SKIPPED, SKIPPED_MASK = 0xFD2FB528, 0x184D2A50, 0xFFFFFFF0
ZSTD_BLOCK = 1 << 17
"""Largest size of a block in bytes."""

RAW, REPEATED = 0, 1


@dataclass(frozen=True)
class ZarrMaps:
    """A Zarr array that is read like one of NumPy.

    Args:
        path: of the array.
        array: a `zarr.Array`.
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
        return self._listed("ids")

    @property
    def names(self) -> list[Any] | None:
        """Its attribute `classes`, where it is a list."""
        return self._listed("classes")

    def _listed(self, attribute: str) -> list[Any] | None:
        listed = self.array.attrs.get(attribute)
        return listed if isinstance(listed, list) else None

    @property
    def fill_value(self) -> Any:
        """What values are read as where their chunk is not stored."""
        return self.array.fill_value

    def missing(self, indices: Array) -> Array | None:
        """Return where values of images are in no stored chunk; None where all chunks are stored.

        Raises:
            BadMaps: a chunk that is damaged.
        """
        if self._has_all_chunks:
            return None
        # Inside of shards, only reading tells: what follows the fill value is not stored.
        first, second = (self._read(_with_fill_value(self.array, f), indices) for f in (0, 1))
        return np.asarray((first == 0) & (second == 1))

    @cached_property
    def _has_all_chunks(self) -> bool:
        array = self.array
        try:
            return array.shards is None and array.nchunks_initialized == array.nchunks
        except Exception:  # malformed metadata, which reading reports
            return False

    def __getitem__(self, indices: Array) -> Array:
        """Read images.

        Raises:
            BadMaps: a chunk that is damaged.
        """
        return self._read(self.array, indices)

    def _read(self, array: Any, indices: Array) -> Array:
        try:
            return np.asarray(array.oindex[indices])
        except Exception as error:  # Zarr and each codec have their own kinds
            raise BadMaps(f"{self.path} is damaged ({_one_line(error)}); write it again") from None


def open_zarr(path: Path) -> ZarrMaps:
    """Open an array of version 2 or 3; nothing of its chunks is read yet.

    Raises:
        BadMaps: no array, a codec that is not known, or chunks far larger than the array.
        BadData: a link in it leads out.
    """
    check_no_external_links(path)
    _check_file_sizes([path / name for name in DOCUMENTS], DOCUMENT_BYTES)
    document = read_json(next(path / name for name in ZARR_FILES if (path / name).is_file()))
    unknown = sorted(set(_codec_names(document)) - CODECS)
    if unknown:
        raise BadMaps(
            f"{path} is packed by {unknown[0]!r}; expected {', '.join(sorted(CODECS))}: write it"
            " again with Zarr's defaults"
        )
    try:
        opened = ZarrMaps(path, _with_bounded_codecs(zarr.open_array(path, mode="r")))
        sides = opened.array.shards or opened.array.chunks
    except Exception as error:  # Zarr raises anything on malformed metadata
        raise BadMaps(
            f"{path} is no readable Zarr array ({_one_line(error)}); write it again"
        ) from None
    itemsize, chunk = opened.dtype.itemsize, math.prod(sides)
    inside = math.prod(map(min, sides, opened.shape))
    if chunk * itemsize > max(inside * itemsize, FREE_BYTES):
        raise BadMaps(
            f"{path} claims chunks of {chunk} values, of {math.prod(opened.shape)} in all; write it"
            " again with chunks of a few images"
        )
    _check_file_sizes(path.rglob("*"), 2 * chunk * itemsize + FREE_BYTES)
    return opened


def _check_file_sizes(files: Iterable[Path], limit: int) -> None:
    """Refuse files that would be read whole and are larger than they can have to be."""
    for file in files:
        if file.is_file() and file.stat().st_size > limit:
            raise BadMaps(
                f"{file} is {file.stat().st_size} bytes; expected {limit} at most: write it"
                " again with chunks of a few images"
            )


def _codec_names(document: Any) -> Iterator[str]:
    """Name the codecs of an array in version 2 or 3, including those inside of shards."""
    if not isinstance(document, dict):
        return
    for key in ("codecs", "index_codecs", "compressor", "filters"):
        codecs = document.get(key) or []
        for codec in codecs if isinstance(codecs, list) else [codecs]:
            options = codec if isinstance(codec, dict) else {"name": codec}
            yield str(options.get("id", options.get("name")))
            yield from _codec_names(options.get("configuration"))


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__


def _with_fill_value(array: Any, value: int) -> Any:
    metadata = replace(array.metadata, fill_value=array.dtype.type(value))
    return zarr.Array(zarr.AsyncArray(metadata, array.store_path))


def _with_bounded_codecs(array: Any) -> Any:
    """Return a `zarr.Array` that refuses chunks which would unpack to more than they hold."""
    metadata = array.metadata
    if metadata.zarr_format == 2:
        limit = math.prod(metadata.chunks) * array.dtype.itemsize
        wrapped = {
            "filters": metadata.filters and [_BoundedV2(f, limit) for f in metadata.filters],
            "compressor": metadata.compressor and _BoundedV2(metadata.compressor, limit),
        }
    else:
        wrapped = {"codecs": [_bound_v3(codec) for codec in metadata.codecs]}
    return zarr.Array(zarr.AsyncArray(replace(metadata, **wrapped), array.store_path))


def _bound_v3(codec: Any) -> Any:
    if isinstance(codec, ShardingCodec):
        return replace(codec, codecs=tuple(_bound_v3(inner) for inner in codec.codecs))
    return _BoundedV3(codec) if isinstance(codec, BytesBytesCodec) else codec


@dataclass(frozen=True)
class _BoundedV3(BytesBytesCodec):
    inner: BytesBytesCodec

    @property
    def is_fixed_size(self) -> bool:  # type: ignore[override]
        return self.inner.is_fixed_size

    def to_dict(self) -> Any:
        return self.inner.to_dict()

    def evolve_from_array_spec(self, array_spec: Any) -> "_BoundedV3":
        return replace(self, inner=self.inner.evolve_from_array_spec(array_spec))

    def compute_encoded_size(self, input_byte_length: int, chunk_spec: Any) -> int:
        return self.inner.compute_encoded_size(input_byte_length, chunk_spec)

    async def _decode_single(self, chunk_bytes: Any, chunk_spec: Any) -> Any:
        limit = math.prod(chunk_spec.shape) * chunk_spec.dtype.to_native_dtype().itemsize
        check_unpacked_size(str(self.to_dict()["name"]), chunk_bytes.as_numpy_array(), limit)
        return await self.inner._decode_single(chunk_bytes, chunk_spec)


class _BoundedV2(Codec):  # type: ignore[misc]
    codec_id = "bounded"

    def __init__(self, inner: Any, limit: int) -> None:
        self._inner, self._limit = inner, limit

    def encode(self, buf: Any) -> Any:
        return self._inner.encode(buf)

    def decode(self, buf: Any, out: Any = None) -> Any:
        check_unpacked_size(self._inner.codec_id, buf, self._limit)
        return self._inner.decode(buf, out)


def check_unpacked_size(codec: str, packed: Any, limit: int) -> None:
    """Refuse bytes that would unpack to more than a chunk holds.

    Args:
        codec: name of what packed them; codecs that do not compress are not checked.
        packed: the bytes, as any buffer.
        limit: how many bytes the chunk holds.

    Raises:
        ValueError: they would, or cannot be what the codec writes.
    """
    unpacked_sizes = UNPACKED.get(codec)
    if unpacked_sizes is None:
        return
    content = memoryview(np.ascontiguousarray(packed)).cast("B")  # type: ignore[arg-type]
    total = 0
    try:
        for size in unpacked_sizes(content):
            total += size
            if total > max(limit, FREE_BYTES):
                raise ValueError(f"a chunk of {limit} bytes would unpack to {total} or more")
    except (struct.error, IndexError, zlib.error):
        raise ValueError(f"a chunk that is not packed by {codec}") from None


def _zlib_sizes(packed: memoryview) -> Iterator[int]:
    """Unpack piece by piece, and keep nothing; several members may follow each other."""
    rest = bytes(packed)
    while rest.strip(b"\0"):
        stream = zlib.decompressobj(GZIP_OR_ZLIB)
        while not stream.eof:
            piece = stream.decompress(rest, PIECE)
            if not piece and not stream.eof:
                return  # cut short, which the codec reports
            yield len(piece)
            rest = stream.unconsumed_tail
        rest = stream.unused_data


def _zstd_sizes(packed: memoryview) -> Iterator[int]:
    """Yield the sizes that frames state or, where they state none, the most of each block."""
    position = 0
    while position < len(packed):
        (magic,) = struct.unpack_from("<I", packed, position)
        if magic & SKIPPED_MASK == SKIPPED:
            position += 8 + struct.unpack_from("<I", packed, position + 4)[0]
            continue
        if magic != ZSTD:
            raise IndexError
        flags = packed[position + 4]
        single = flags >> 5 & 1
        position += 5 + (1 - single) + (0, 1, 2, 4)[flags & 3]
        width = (single, 2, 4, 8)[flags >> 6]
        if width:
            field = bytes(packed[position : position + width])
            yield int.from_bytes(field, "little") + 256 * (width == 2)
            return  # the codec takes no more memory than the first frame states
        last = 0
        while not last:
            head = int.from_bytes(packed[position : position + 3], "little")
            last, kind, size = head & 1 or position >= len(packed), head >> 1 & 3, head >> 3
            yield size if kind in (RAW, REPEATED) else ZSTD_BLOCK
            position += 3 + (1 if kind == REPEATED else size)
        position += 4 * (flags >> 2 & 1)


def _stated_size(offset: int) -> Callable[[memoryview], Iterator[int]]:
    """Return what reads a size of four bytes, which the codec trusts."""
    return lambda packed: iter(struct.unpack_from("<I", packed, offset))


UNPACKED: dict[str, Callable[[memoryview], Iterator[int]]] = {
    "gzip": _zlib_sizes,
    "zlib": _zlib_sizes,
    "zstd": _zstd_sizes,
    "blosc": _stated_size(4),
    "lz4": _stated_size(0),
}
