"""Zarr arrays from untrusted sources: what codecs write is read, what fills memory is refused."""

import gzip
import struct
from typing import Any

import numpy as np
import pytest
import zarr
from numcodecs import LZ4, Blosc, GZip, Shuffle, Zlib, Zstd
from zarr.codecs import BloscCodec, Crc32cCodec, GzipCodec, TransposeCodec, ZstdCodec

from evaluation.core.classes import numbered
from evaluation.core.errors import BadMaps
from evaluation.core.ragged import Extent
from members.external.formats import open_external
from members.external.inspection import inspect_maps
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


SOME_SHARDS = {"compressors": [ZstdCodec()], "shards": (4, 5, 4, 8)}


def inspected(path, chunks, fill, written, packed, **options):
    """Inspect an array of ones of which only `written` is stored."""
    shape = (6, 5, 4, 8) if len(chunks) == 4 else (6, 4, 8)
    kind = {"shape": shape, "chunks": chunks, "dtype": "f4" if len(chunks) == 4 else "u1"}
    array = zarr.create_array(path, **kind, **packed, fill_value=fill)
    for part in written:
        array[part] = 1 / 5 if len(chunks) == 4 else 1
    array.attrs["ids"] = list("abcdef")
    return inspect_maps(
        open_external([path]),
        np.arange(6),
        classes=numbered(5, ignore=None),
        extent=Extent.uniform(6, (4, 8)),
        known=None,
        **options,
    )


class TestMissingChunks:
    @pytest.mark.parametrize("fill", [0, 0.25])
    @pytest.mark.parametrize("packed", [{}, SOME_SHARDS, PACKED["version 2, zlib"]])
    @pytest.mark.parametrize("no_checks", [False, True])
    def test_maps_that_lack_images_are_refused_by_name(self, tmp_path, fill, packed, no_checks):
        words = r"a\.zarr lacks chunks of 2 of 6 images \(first: 'c', 'd'\); expected every"
        with pytest.raises(BadMaps, match=words):
            inspected(
                tmp_path / "a.zarr",
                (2, 5, 2, 8),
                fill,
                [np.s_[:2], np.s_[2:4, :, :2], np.s_[4:]],
                packed,
                no_checks=no_checks,
            )

    @pytest.mark.parametrize("packed", [{}, PACKED["version 2, zlib"]])
    def test_labels_and_single_classes_that_may_be_zero_are_asked_about(self, tmp_path, packed):
        for name, chunks, written in (
            ("labels.zarr", (2, 4, 8), [np.s_[:2], np.s_[4:]]),
            ("maps.zarr", (2, 1, 4, 8), [np.s_[:2], np.s_[4:], np.s_[2:4, 1:]]),
        ):
            words = r"2 of 6 images .*'c', 'd'.* cannot be told .* hold only 0.* by --no-checks"
            with pytest.raises(BadMaps, match=words):
                inspected(tmp_path / name, chunks, 0, written, packed)
            taken = {"no_checks": True, "normalise": True}
            report = inspected(tmp_path / f"as-{name}", chunks, 0, written, packed, **taken)
            assert "lacks chunks of 2 of 6 images" in report.notes[0]

    def test_an_array_without_any_chunk_is_refused(self, tmp_path):
        with pytest.raises(
            BadMaps, match=r"lacks chunks of 6 of 6 images \(first: 'a', 'b', 'c'\)"
        ):
            inspected(tmp_path / "a.zarr", (2, 5, 2, 8), 0, [], {})

    @pytest.mark.parametrize("packed", [{}, SOME_SHARDS])
    def test_a_whole_array_has_no_note_of_it(self, tmp_path, packed):
        report = inspected(tmp_path / "a.zarr", (2, 5, 2, 8), 0, [np.s_[:]], packed)
        assert not any("chunks" in note for note in report.notes)
