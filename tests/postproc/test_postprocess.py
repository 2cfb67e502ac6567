"""Whole sets of maps, block by block."""

import numpy as np
import pytest

from evaluation.core.errors import BadData, BadMaps
from members.maps import ArrayMaps
from postproc.chain import parse_chain
from postproc.postprocess import postprocess

CLASSES, IMAGES = 3, 130


def chain(text):
    return parse_chain(text, classes=CLASSES, ignore=0)


@pytest.fixture
def maps():
    rng = np.random.default_rng(0)
    drawn = rng.dirichlet(np.ones(CLASSES), (IMAGES, 4, 5)).astype(np.float32)
    return np.moveaxis(drawn, -1, 1).copy()


@pytest.fixture
def images():
    return np.random.default_rng(1).integers(0, 256, (IMAGES, 1, 4, 5), dtype=np.uint8)


def collected(blocks):
    labels = np.full((IMAGES, 4, 5), 255, dtype=np.uint8)
    for block, values in blocks:
        labels[block] = values
    return labels


@pytest.mark.parametrize("text", ["", "mode_filter(size=3)", "crf(iterations=1)|remove_small"])
@pytest.mark.parametrize("threads", [1, 3])
def test_blocks_give_what_the_chain_gives_at_once(maps, images, text, threads):
    blocks = list(postprocess(ArrayMaps("maps", maps), chain(text), images=images, threads=threads))
    assert [block for block, _ in blocks] == [slice(0, 64), slice(64, 128), slice(128, 130)]
    np.testing.assert_array_equal(collected(blocks), chain(text)(maps, images))


def test_no_more_blocks_are_read_than_are_consumed(maps, monkeypatch):
    read = []

    def read_block(block):
        read.append(block.start)
        return maps[:1].repeat(block.stop - block.start, axis=0)

    endless = np.broadcast_to(maps[:1], (64 * 100, *maps.shape[1:]))
    reader = ArrayMaps("endless", endless)
    monkeypatch.setattr(ArrayMaps, "read", lambda self, block, out=None: read_block(block))
    first, _ = next(iter(postprocess(reader, chain(""), threads=1)))
    assert first == slice(0, 64)
    assert len(read) <= 3


def unreadable():
    class Untouchable(np.ndarray):
        def __getitem__(self, key):
            raise AssertionError

    return ArrayMaps("maps", np.zeros((IMAGES, CLASSES, 4, 5), np.float32).view(Untouchable))


def test_missing_images_are_refused_before_anything_is_read():
    with pytest.raises(BadData, match="give them with --images"):
        postprocess(unreadable(), chain("crf"))


def test_another_number_of_images_is_refused_before_anything_is_read(images):
    with pytest.raises(BadData, match="129 images for maps of 130"):
        postprocess(unreadable(), chain("crf"), images=images[:-1])


def test_images_that_no_step_needs_are_not_read(maps):
    class Untouchable(np.ndarray):
        def __getitem__(self, key):
            raise AssertionError

    images = np.zeros((IMAGES, 1, 4, 5), dtype=np.uint8).view(Untouchable)
    assert list(postprocess(ArrayMaps("maps", maps), chain("blur"), images=images))


@pytest.mark.parametrize("strange", [np.nan, np.inf])
def test_values_that_are_not_finite_are_reported_with_their_image(maps, strange):
    maps[70, 1, 2, 3] = strange
    with pytest.raises(BadMaps, match="NaN or infinite values in image 70; expected prob"):
        list(postprocess(ArrayMaps("maps", maps), chain("")))
