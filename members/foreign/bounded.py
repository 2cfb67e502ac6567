"""Zarr's codecs, kept from unpacking more than a chunk holds.

A chunk's length is known from the array's metadata, and what it is packed by tells, or can be made
to tell, what it would unpack to. The codecs themselves believe it and take the memory.
"""

import math
import struct
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import zarr
from numcodecs.abc import Codec  # type: ignore[import-untyped]
from zarr.abc.codec import BytesBytesCodec
from zarr.codecs import ShardingCodec

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
