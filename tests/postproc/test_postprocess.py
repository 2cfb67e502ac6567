"""Whole sets of maps, block by block."""

import numpy as np
import pytest

from evaluation.ground.errors import BadData, BadMaps
from postproc.chain import parse_chain
from postproc.postprocess import map_reader, postprocess

CLASSES, PICTURES = 3, 130


def chain(text):
    return parse_chain(text, classes=CLASSES, ignore=0)


@pytest.fixture
def maps():
    rng = np.random.default_rng(0)
    drawn = rng.dirichlet(np.ones(CLASSES), (PICTURES, 4, 5)).astype(np.float32)
    return np.moveaxis(drawn, -1, 1).copy()


@pytest.fixture
def pictures():
    return np.random.default_rng(1).integers(0, 256, (PICTURES, 1, 4, 5), dtype=np.uint8)


def collected(blocks):
    labels = np.full((PICTURES, 4, 5), 255, dtype=np.uint8)
    for block, values in blocks:
        labels[block] = values
    return labels


@pytest.mark.parametrize("text", ["", "mode_filter(size=3)", "crf(iterations=1)|remove_small"])
@pytest.mark.parametrize("threads", [1, 3])
def test_blocks_give_what_the_chain_gives_at_once(maps, pictures, text, threads):
    blocks = list(
        postprocess(map_reader(maps), PICTURES, chain(text), pictures=pictures, threads=threads)
    )
    assert [block for block, _ in blocks] == [slice(0, 64), slice(64, 128), slice(128, 130)]
    np.testing.assert_array_equal(collected(blocks), chain(text)(maps, pictures))


def test_reads_no_further_than_it_is_asked_to(maps):
    read = []

    def reader(block):
        read.append(block.start)
        return maps[:1].repeat(block.stop - block.start, axis=0)

    first, _ = next(iter(postprocess(reader, 64 * 100, chain(""), threads=1)))
    assert first == slice(0, 64)
    assert len(read) <= 3


def test_missing_pictures_are_told_before_anything_is_read():
    def reader(block):
        raise AssertionError

    with pytest.raises(BadData, match="give them with --images"):
        postprocess(reader, PICTURES, chain("crf"))


def test_another_number_of_pictures_is_told_before_anything_is_read(pictures):
    def reader(block):
        raise AssertionError

    with pytest.raises(BadData, match="129 pictures for maps of 130"):
        postprocess(reader, PICTURES, chain("crf"), pictures=pictures[:-1])


def test_pictures_that_no_step_needs_are_not_read(maps):
    class Untouchable(np.ndarray):
        def __getitem__(self, key):
            raise AssertionError

    pictures = np.zeros((PICTURES, 1, 4, 5), dtype=np.uint8).view(Untouchable)
    assert list(postprocess(map_reader(maps), PICTURES, chain("blur"), pictures=pictures))


class TestMapReader:
    @pytest.mark.parametrize("dtype", ["float16", "float32", "float64", "uint8"])
    def test_reads_any_type_as_float32_probabilities(self, maps, tmp_path, dtype):
        stored = np.rint(maps * 255) if dtype == "uint8" else maps
        np.save(tmp_path / "maps.npy", stored.astype(dtype))
        read = map_reader(np.load(tmp_path / "maps.npy", mmap_mode="r"))(slice(10, 20))
        assert read.dtype == np.float32
        np.testing.assert_allclose(read, maps[10:20], atol=1 / 500)

    @pytest.mark.parametrize(
        ("broken", "words"),
        [
            (np.nan, "a.npy, pictures from 64 on: 1 values are NaN"),
            (7.0, "a.npy, pictures from 64 on: values go from"),
            (0.999, "a.npy, pictures from 64 on: a pixel's classes sum to"),
        ],
    )
    def test_refuses_what_is_no_probability(self, maps, broken, words):
        maps[70, :, 0, 0] = 0.01, 0.02, broken
        results = postprocess(map_reader(maps, "a.npy"), PICTURES, chain(""), threads=1)
        with pytest.raises(BadMaps, match=words):
            list(results)

    @pytest.mark.parametrize(
        ("shape", "dtype", "words"),
        [
            ((2, 4, 5), "float32", "a.npy has shape (2, 4, 5); expected (pictures, classes, rows"),
            ((0, 3, 4, 5), "float32", "none of them 0"),
            ((2, 3, 4, 5), "int64", "a.npy holds int64; expected floating point, or uint8"),
        ],
    )
    def test_refuses_other_arrays(self, shape, dtype, words):
        with pytest.raises(BadMaps) as refusal:
            map_reader(np.zeros(shape, dtype=dtype), "a.npy")
        assert words in str(refusal.value)
