"""Superpixels, and the vote over them."""

import numpy as np
import pytest

from evaluation.core.arrays import argmax
from evaluation.core.errors import BadSpec
from postproc.steps import STEPS
from postproc.steps.superpixel_vote import average_over, superpixels

OPTIONS = {"size_px": 8, "compactness": 20.0, "iterations": 5}


def build(spec, *, classes=2):
    return STEPS.build(spec, classes=classes, ignore=None, floor=2.0**-25)


@pytest.fixture
def halves():
    """A dark and a bright half whose edge is at no multiple of a cell's side."""
    image = np.full((1, 1, 32, 48), 60, dtype=np.uint8)
    image[..., 21:] = 160
    return image


def assigned_by_hand(image, cells, *, size_px, compactness, iterations):
    """SLIC over one small grey image, pixel by pixel."""
    rows, cols = image.shape
    down, across = cells
    points = {
        (r, c): np.array([r / size_px, c / size_px, image[r, c] / compactness])
        for r, c in np.ndindex(rows, cols)
    }
    cell = {place: (place[0] // size_px, place[1] // size_px) for place in points}
    owner, centre = dict(cell), {}
    for _ in range(iterations):
        for one in np.ndindex(down, across):
            mine = [points[place] for place in points if owner[place] == one]
            if mine:
                centre[one] = np.mean(mine, axis=0)
        for place, point in points.items():
            near = [one for one in centre if max(abs(np.subtract(one, cell[place]))) <= 1]
            owner[place] = min(near, key=lambda one: ((centre[one] - point) ** 2).sum())
    return np.array([owner[p][0] * across + owner[p][1] for p in np.ndindex(rows, cols)])


@pytest.mark.parametrize(
    ("size", "compactness"),
    [
        ((9, 13), 60.0),
        ((8, 8), 60.0),
        ((3, 5), 60.0),
        pytest.param((7, 10), 10.0, id="one loses all its pixels"),
    ],
)
def test_are_those_of_a_slow_implementation(size, compactness):
    image = np.random.default_rng(3).integers(0, 256, size, dtype=np.uint8)
    options = {"size_px": 4, "compactness": compactness, "iterations": 3}
    count, owners = superpixels(image[None, None], **options)
    cells = tuple(-(-side // 4) for side in size)
    assert count == np.prod(cells)
    np.testing.assert_array_equal(owners.ravel(), assigned_by_hand(image, cells, **options))


def test_end_where_the_image_changes(halves):
    _, owners = superpixels(halves, **OPTIONS)
    assert not set(owners[..., :21].ravel()) & set(owners[..., 21:].ravel())


def test_of_a_constant_image_are_squares():
    _, owners = superpixels(np.full((1, 1, 16, 24), 9, np.uint8), **OPTIONS)
    expected = np.arange(6).reshape(2, 3).repeat(8, axis=0).repeat(8, axis=1)
    np.testing.assert_array_equal(owners[0], expected)


def test_of_two_images_are_never_one(halves):
    _, owners = superpixels(np.concatenate([halves, halves]), **OPTIONS)
    assert not set(owners[0].ravel()) & set(owners[1].ravel())


def test_a_grey_image_is_three_equal_channels(halves):
    noise = np.random.default_rng(0).integers(0, 40, halves.shape, dtype=np.uint8)
    _, grey = superpixels(halves + noise, **OPTIONS)
    _, colour = superpixels((halves + noise).repeat(3, axis=1), **OPTIONS)
    assert (grey == colour).mean() > 0.999


def test_the_vote_draws_labels_to_the_edge(halves):
    maps = np.full((1, 2, 32, 48), 0.2, dtype=np.float32)
    maps[:, 0, :, :19] = maps[:, 1, :, 19:] = 0.8  # the edge is predicted two pixels too far left
    labels = argmax(build("superpixel_vote").apply(maps, halves))
    np.testing.assert_array_equal(labels, (halves[:, 0] > 100).astype(np.uint8))


def test_a_pixel_gets_the_mean_of_its_superpixel():
    owners = np.array([[[0, 0, 2], [2, 2, 2]]])
    maps = np.arange(12, dtype=np.float32).reshape(1, 2, 2, 3)
    first, second = 0.5, (2 + 3 + 4 + 5) / 4
    expected = np.array([[[first, first, second], [second] * 3]])
    np.testing.assert_allclose(average_over(maps, owners, 3)[:, 0], expected)
    np.testing.assert_allclose(average_over(maps, owners, 3)[:, 1], expected + 6)


@pytest.mark.parametrize(
    ("option", "words"),
    [
        ("size_px=1", "option 'size_px' got 1; expected greater than or equal to 2"),
        ("size_px=-8", "option 'size_px' got -8"),
        ("compactness=0", "option 'compactness' got 0; expected greater than 0"),
        ("compactness=-1", "option 'compactness' got -1"),
        ("iterations=0", "option 'iterations' got 0; expected greater than or equal to 1"),
    ],
)
def test_refuses_an_option_out_of_range(option, words):
    with pytest.raises(BadSpec) as refusal:
        build(f"superpixel_vote({option})")
    assert words in str(refusal.value)
