"""Zarr arrays from untrusted sources: what codecs write is read, what fills memory is refused."""

import gzip
import struct
from typing import Any

import numpy as np
import pytest
import zarr
from numcodecs import LZ4, Blosc, GZip, Shuffle, Zlib, Zstd  # type: ignore[import-untyped]
from zarr.codecs import BloscCodec, Crc32cCodec, GzipCodec, TransposeCodec, ZstdCodec

from evaluation.core.errors import BadMaps
from members.external.zarr_arrays import UNPACKED, check_unpacked_size, open_zarr

MAPS = np.random.default_rng(0).random((6, 5, 4, 8)).astype(np.float32)
FRAME = b"\x28\xb5\x2f\xfd\x00\x58"
"""The head of a Zstandard frame that does not say how much it holds."""

PACKED: dict[str, Any] = {
    "plain": {"compressors": None},
    "gzip": {"compressors": [GzipCodec()]},
    "zstd": {"compressors": [ZstdCodec()]},
    "blosc": {"compressors": [BloscCodec()]},
    "zstd and a checksum": {"compressors": [ZstdCodec(), Crc32cCodec()]},
    "a checksum and gzip": {"compressors": [Crc32cCodec(), GzipCodec()]},
    "shards": {"compressors": [ZstdCodec()], "shards": (4, 5, 4, 8)},
    "transposed": {"filters": [TransposeCodec(order=(1, 0, 2, 3))]},
    "version 2, zlib": {"zarr_format": 2, "compressors": Zlib()},
    "version 2, lz4": {"zarr_format": 2, "compressors": LZ4(), "filters": [Shuffle(4)]},
    "version 2, blosc": {"zarr_format": 2, "compressors": Blosc()},
    "version 2, plain": {"zarr_format": 2, "compressors": None},
}


@pytest.mark.parametrize("way", PACKED)
def test_what_zarr_writes_is_read_as_it_was(tmp_path, way):
    written = {"shape": MAPS.shape, "chunks": (2, 5, 4, 8), "dtype": "f4", **PACKED[way]}
    array = zarr.create_array(tmp_path / "a.zarr", **written)
    array[:] = MAPS
    opened = open_zarr(tmp_path / "a.zarr")
    np.testing.assert_array_equal(opened[np.array([0, 3, 5])], MAPS[[0, 3, 5]])


CODECS = [GZip(), Zlib(), Zstd(), Blosc(), LZ4()]


@pytest.mark.parametrize("size", [1, 255, 256, 65_791, 65_792, 3_000_000])
@pytest.mark.parametrize("codec", CODECS, ids=lambda codec: codec.codec_id)
def test_the_unpacked_size_of_what_a_codec_wrote_is_known(codec, size):
    packed = codec.encode(np.zeros(size, np.uint8))
    assert sum(UNPACKED[codec.codec_id](memoryview(packed).cast("B"))) == size


def blocks(*sizes):
    """Return blocks of (kind, bytes), of which the last is marked as such."""
    heads = [kind << 1 | size << 3 | (k == len(sizes) - 1) for k, (kind, size) in enumerate(sizes)]
    return b"".join(
        head.to_bytes(3, "little") + bytes(1 if kind == 1 else size)
        for head, (kind, size) in zip(heads, sizes, strict=True)
    )


def test_a_frame_without_its_size_is_measured_by_its_blocks():
    packed = FRAME + blocks((0, 7), (1, 1000), (1, 1 << 17))
    assert len(Zstd().decode(packed)) == 7 + 1000 + (1 << 17)
    assert sum(UNPACKED["zstd"](memoryview(packed))) == 7 + 1000 + (1 << 17)


def test_frames_and_members_one_after_the_other_are_added():
    skipped = struct.pack("<II", 0x184D2A53, 5) + bytes(5)
    packed = FRAME + blocks((1, 40)) + skipped + FRAME + blocks((1, 2))
    assert sum(UNPACKED["zstd"](memoryview(packed))) == 42
    both = gzip.compress(bytes(40)) + gzip.compress(bytes(2)) + bytes(8)
    assert len(GZip().decode(both)) == sum(UNPACKED["gzip"](memoryview(both))) == 42


MOST = 1 << 25
WORDS = f"a chunk of {MOST} bytes would unpack to "
TOO_MUCH = {
    "zstd": FRAME + blocks(*[(1, 1 << 17)] * 257),
    "gzip": gzip.compress(bytes(MOST + 1)),
    "zlib": Zlib().encode(bytes(MOST + 1)),
    "blosc": b"\x02\x01\x21\x04" + struct.pack("<I", MOST + 1) + bytes(8),
    "lz4": struct.pack("<I", MOST + 1),
}


@pytest.mark.parametrize("codec", TOO_MUCH)
def test_a_byte_too_much_is_refused_before_it_is_unpacked(codec):
    with pytest.raises(ValueError, match=WORDS):
        check_unpacked_size(codec, TOO_MUCH[codec], MOST)
    check_unpacked_size(codec, TOO_MUCH[codec], 2 * MOST)


@pytest.mark.parametrize("codec", sorted(TOO_MUCH))
def test_bytes_of_something_else_are_refused(codec):
    with pytest.raises(ValueError, match=r"not packed by|would unpack to"):
        check_unpacked_size(codec, b"\xfe" * 99, 9)


def test_chunks_may_reach_beyond_the_array_but_not_far(tmp_path):
    for side, words in (
        (1 << 8, None),
        (1 << 20, "claims chunks of 10485760 values, of 48 in all"),
    ):
        path = tmp_path / f"{side}.zarr"
        zarr.create_array(path, shape=(2, 3, 2, 4), chunks=(2, 5, 1, side), dtype="f4")
        if side < 1 << 20:
            assert open_zarr(path).shape == (2, 3, 2, 4)
        else:
            with pytest.raises(BadMaps, match=words):
                open_zarr(path)
