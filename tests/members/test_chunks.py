"""Chunk files: values as by NumPy, checksums as by the library that Zarr uses."""

import contextlib

import google_crc32c
import numpy as np
import pytest

from evaluation.core.classes import numbered
from evaluation.core.errors import BadRun
from evaluation.core.ragged import Extent
from members import chunks
from members.chunks import ChunkFile, DamagedChunk
from members.store import ProbabilityStore

# Shorter than a word, odd, longer than three lanes of the checksum, longer than a batch.
COUNTS = [1, 7, 4096, 3 * 4096 + 5, 200_003]


def values(dtype, count):
    rng = np.random.default_rng(count)
    if dtype == "uint8":
        return rng.integers(0, 256, count, np.uint8)
    return rng.normal(size=count).astype(dtype)


def written(path, array):
    content = array.tobytes()
    path.write_bytes(content + google_crc32c.value(content).to_bytes(4, "little"))
    return path


def opened(path, dtype, count):
    return ChunkFile(path.open("rb", buffering=0), str(path), dtype, count)


def read(path, dtype, count, *parts):
    """Read a chunk in parts; the rest is read for the checksum only."""
    values = []
    with contextlib.closing(opened(path, dtype, count)) as file:
        for part in parts or (count,):
            out = np.empty(part, np.float32)
            file.read_into(out)
            values.append(out)
        file.finish()
    return np.concatenate(values)


@pytest.mark.parametrize("dtype", ["float16", "uint8", "float32"])
@pytest.mark.parametrize("count", COUNTS)
class TestAnyChunk:
    def test_a_chunk_is_read_to_the_bit(self, dtype, count, tmp_path):
        array = values(dtype, count)
        expected = array.astype(np.float32)
        if dtype == "uint8":
            expected *= np.float32(1 / 255)
        path = written(tmp_path / "0", array)
        np.testing.assert_array_equal(read(path, dtype, count), expected)
        first = count // 3
        np.testing.assert_array_equal(read(path, dtype, count, first, count - first), expected)
        np.testing.assert_array_equal(read(path, dtype, count, first), expected[:first])

    def test_a_chunk_is_added_to_the_values_in_memory(self, dtype, count, tmp_path):
        path = written(tmp_path / "0", values(dtype, count))
        alone = read(path, dtype, count)
        total = np.linspace(-1, 1, count, dtype=np.float32)
        expected = total + alone
        with contextlib.closing(opened(path, dtype, count)) as file:
            file.read_into(total, add=True)
            file.finish()
        np.testing.assert_array_equal(total, expected)

    def test_a_flipped_bit_anywhere_is_found(self, dtype, count, tmp_path):
        path = written(tmp_path / "0", values(dtype, count))
        whole = path.read_bytes()
        for position in {0, len(whole) // 2, len(whole) - 5, len(whole) - 1}:
            damaged = bytearray(whole)
            damaged[position] ^= 16
            path.write_bytes(damaged)
            with pytest.raises(DamagedChunk, match="checksum"):
                read(path, dtype, count)

    def test_a_chunk_too_short_or_too_long_is_found(self, dtype, count, tmp_path):
        path = written(tmp_path / "0", values(dtype, count))
        whole = path.read_bytes()
        for content, word in ((whole[:-1], "short"), (whole[:3], "short"), (whole + b"x", "long")):
            path.write_bytes(content)
            with pytest.raises(DamagedChunk, match=word):
                read(path, dtype, count)


def test_every_half_float_is_converted_as_by_numpy(tmp_path):
    halves = np.arange(1 << 16, dtype=np.uint16).view(np.float16)
    # The last few values of a read take another code path than those read by eights.
    by_sevens = read(written(tmp_path / "0", halves), "float16", len(halves), *[7] * 9362, 2)
    for values_read in (by_sevens, read(tmp_path / "0", "float16", len(halves))):
        np.testing.assert_array_equal(values_read, halves.astype(np.float32))
        np.testing.assert_array_equal(np.signbit(values_read), np.signbit(halves))


def test_a_library_that_was_not_built_is_refused_with_the_command(tmp_path, monkeypatch):
    monkeypatch.setattr(chunks, "LIBRARY", tmp_path / "chunk_read.so")
    chunks._read.cache_clear()
    try:
        with pytest.raises(BadRun, match=r"run `pip install -e \.` in the source folder"):
            read(written(tmp_path / "0", values("uint8", 4)), "uint8", 4)
    finally:
        chunks._read.cache_clear()


@pytest.mark.parametrize(
    ("content", "words"),
    [(b"[]", "holds no metadata of an array"), (b"{}", r"an array of .*, expected ")],
)
def test_a_header_of_something_else_is_refused(tmp_path, content, words):
    layout = layout_of_a_store(tmp_path)
    layout.check_header(layout.header())
    layout.check_header(layout.header() + b"\n")  # written by another program
    with pytest.raises(ValueError, match=words):
        layout.check_header(content)


def test_what_a_killed_process_was_writing_is_removed(tmp_path):
    layout = layout_of_a_store(tmp_path)
    local = chunks.LocalChunks(tmp_path / "m" / "oof")
    whole = tmp_path / "m" / "oof" / chunks.ARRAY / layout.chunk_name(0)
    whole.parent.mkdir(parents=True, exist_ok=True)
    whole.write_bytes(b"whole")
    partial = whole.with_name(f"{whole.name}{chunks.PARTIAL}")
    partial.write_bytes(b"half")
    local.discard_partial()
    assert whole.exists()
    assert not partial.exists()


def layout_of_a_store(folder):
    store = ProbabilityStore.create(
        folder / "m" / "oof",
        ids=("a", "b"),
        classes=numbered(3, ignore=None),
        extent=Extent.uniform(2, (4, 6)),
        seen=None,
        dtype="float16",
    )
    return store._layouts[0]
