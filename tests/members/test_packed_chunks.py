"""Packed chunks: every byte comes back, and damage never does."""

import contextlib

import numpy as np
import pytest
import zarr
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from zarr.registry import register_codec

from members.chunks import BIT_PLANES, ArrayLayout, DamagedChunk
from members.packed_chunks import PackedChunk, pack_chunk, pack_maps, packed_limit, unpack_maps
from members.zarr_codec import BitPlanes

maps_of_bytes = arrays(
    np.uint8,
    array_shapes(min_dims=4, max_dims=4, max_side=9),
    elements=st.one_of(st.integers(0, 255), st.integers(0, 2), st.just(0)),
)


def layout_of(maps, chunk_images=None):
    return ArrayLayout("", 0, maps.shape, chunk_images or len(maps), "uint8", packed=True)


def opened(path, layout):
    return PackedChunk(path.open("rb", buffering=0), str(path), layout)


def smooth():
    row, col = np.mgrid[:40, :50]
    waves = [127 + 127 * np.sin((row * k + col) / 30) for k in range(1, 4)]
    return np.stack([waves] * 2).astype(np.uint8)


@pytest.fixture
def path(tmp_path):
    (tmp_path / "0").write_bytes(b"".join(bytes(piece) for piece in pack_chunk(smooth())))
    return tmp_path / "0"


@given(maps_of_bytes)
def test_any_bytes_come_back(maps):
    packed = pack_maps(maps)
    assert len(packed) <= packed_limit(maps.shape)
    np.testing.assert_array_equal(unpack_maps(packed, maps.shape), maps)


def test_the_second_of_two_classes_takes_next_to_nothing():
    first = smooth()[:, :1]
    both = np.concatenate([first, 255 - first], axis=1)
    assert len(pack_maps(both)) < 1.05 * len(pack_maps(first))
    np.testing.assert_array_equal(unpack_maps(pack_maps(both), both.shape), both)


def test_images_are_read_in_any_parts_skipped_and_added(path):
    expected = smooth() * np.float32(1 / 255)
    whole = np.empty(expected.shape, np.float32)
    opened(path, layout_of(smooth())).read_into(whole)
    np.testing.assert_array_equal(whole, expected)
    chunk = opened(path, layout_of(smooth()))
    chunk.skip(1)
    chunk.read_into(whole[:1], add=True)
    np.testing.assert_array_equal(whole[0], expected[0] + expected[1])


def test_smooth_maps_are_packed_and_noise_hardly_grows():
    assert len(pack_maps(smooth())) < 0.6 * smooth().size
    noise = np.random.default_rng(0).integers(0, 256, (1, 2, 64, 64), np.uint8)
    assert len(pack_maps(noise)) < 1.02 * noise.size


def test_images_after_the_last_that_was_packed_are_zeros():
    maps = unpack_maps(pack_maps(smooth()[:1]), smooth().shape)
    np.testing.assert_array_equal(maps[0], smooth()[0])
    assert not maps[1].any()


class TestDamage:
    @pytest.mark.parametrize("part", [0.0, 0.5, 0.99])
    def test_a_flipped_bit_anywhere_is_found(self, path, part):
        damaged = bytearray(path.read_bytes())
        damaged[int(part * len(damaged))] ^= 16
        path.write_bytes(damaged)
        with pytest.raises(DamagedChunk, match=r"the checksum of .* does not match"):
            opened(path, layout_of(smooth()))

    @pytest.mark.parametrize(
        ("content", "words"),
        [
            (lambda whole: whole[:3], "is too short"),
            (lambda whole: whole[:-5], "checksum"),
            (lambda whole: whole + b"1", "checksum"),
            (lambda whole: whole + bytes(1 << 20), "is too long"),
        ],
        ids=["no checksum", "cut", "a byte too many", "more than any chunk"],
    )
    def test_another_length_is_found(self, path, content, words):
        path.write_bytes(content(path.read_bytes()))
        with pytest.raises(DamagedChunk, match=words):
            opened(path, layout_of(smooth()))

    def test_a_chunk_of_fewer_images_is_too_short(self, path):
        chunk = opened(path, layout_of(np.concatenate([smooth(), smooth()])))
        out = np.empty((4, *smooth().shape[1:]), np.float32)
        with contextlib.closing(chunk), pytest.raises(DamagedChunk, match="is too short"):
            chunk.read_into(out)

    def test_widths_that_cannot_be_are_refused_whatever_the_checksum_says(self):
        packed = pack_maps(smooth()).copy()
        packed[:20] = 0xFF
        with pytest.raises(ValueError, match="too short"):
            unpack_maps(packed, smooth().shape)


def test_zarr_reads_and_writes_them_by_the_codec(tmp_path):
    register_codec(BIT_PLANES, BitPlanes)
    codecs = {"serializer": BitPlanes(), "compressors": None}
    maps = np.concatenate([smooth(), smooth()[:1]])
    shape = {"shape": maps.shape, "chunks": (2, *maps.shape[1:]), "dtype": "uint8"}
    written = zarr.create_array(tmp_path / "maps.zarr", **shape, **codecs)
    written[:] = maps
    np.testing.assert_array_equal(zarr.open_array(tmp_path / "maps.zarr", mode="r")[:], maps)
