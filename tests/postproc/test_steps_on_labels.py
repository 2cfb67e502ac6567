"""Steps on labels: against brute force, and by hand."""

from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from evaluation.core.errors import BadSpec
from postproc.regions import Regions, fill_with_nearest
from postproc.steps import STEPS

SIDES = [(-1, 0), (1, 0), (0, -1), (0, 1)]
CORNERS = [(-1, -1), (-1, 1), (1, -1), (1, 1)]

sides = st.integers(1, 8)


@st.composite
def label_maps(draw):
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    rows, cols, classes = draw(sides), draw(sides), draw(st.integers(2, 4))
    return rng.integers(0, classes, (rows, cols), dtype=np.uint8)


def applied(spec, image):
    step = STEPS.build(spec, classes=5, ignore=0, floor=2.0**-25)
    return step.apply(np.asarray(image, dtype=np.uint8)[None], None)[0]


def drawn(text):
    """Read an image of digits, a row a word."""
    return np.array([[int(sign) for sign in row] for row in text.split()], dtype=np.uint8)


def pixels(image):
    return {(int(r), int(c)): int(label) for (r, c), label in np.ndenumerate(image)}


def region_of(start, labels, steps):
    """Walk over the pixels of one label from `start`."""
    found, todo = {start}, [start]
    while todo:
        row, col = todo.pop()
        beside = {(row + r, col + c) for r, c in steps} - found
        more = [place for place in beside if labels.get(place) == labels[start]]
        found.update(more)
        todo += more
    return found


def nearest_by_hand(labels, kept):
    """Lowest label among the kept pixels at the smallest number of steps, for each pixel."""
    if not kept:
        return labels

    def nearest(place):
        return min((abs(place[0] - r) + abs(place[1] - c), labels[r, c]) for r, c in kept)[1]

    return {place: nearest(place) for place in labels}


def as_image(labels, shape):
    return np.array([labels[place] for place in np.ndindex(shape)], dtype=np.uint8).reshape(shape)


def mode_by_hand(image, size):
    labels, radius, result = pixels(image), size // 2, {}
    for (row, col), own in labels.items():
        near = (
            label for (r, c), label in labels.items() if max(abs(r - row), abs(c - col)) <= radius
        )
        votes = Counter(near)
        most = max(votes.values())
        winners = [label for label in votes if votes[label] == most]
        result[row, col] = own if own in winners else min(winners)
    return as_image(result, image.shape)


def remove_small_by_hand(image, area, steps):
    labels = pixels(image)
    kept = [place for place in labels if len(region_of(place, labels, steps)) >= area]
    return as_image(nearest_by_hand(labels, kept), image.shape)


def open_by_hand(image, size):
    labels, radius = pixels(image), size // 2

    def square(place):
        return [p for p in labels if max(abs(p[0] - place[0]), abs(p[1] - place[1])) <= radius]

    kept = set()
    for place in labels:
        covered = square(place)
        if len({labels[p] for p in covered}) == 1:
            kept.update(covered)
    return as_image(nearest_by_hand(labels, kept), image.shape)


def fill_by_hand(image, area):
    labels = pixels(image)
    rows, cols = image.shape
    edge = {p for p in labels if p[0] in (0, rows - 1) or p[1] in (0, cols - 1)}
    for label in sorted(set(labels.values())):
        other = {place: value != label for place, value in labels.items()}
        for place in [p for p in labels if other[p]]:
            hole = region_of(place, other, SIDES)
            if len(hole) <= area and not hole & edge:
                labels.update(dict.fromkeys(hole, label))
    return as_image(labels, image.shape)


class TestAgainstBruteForce:
    @settings(max_examples=25, deadline=None)
    @given(image=label_maps(), size=st.sampled_from([1, 3, 5, 9]))
    def test_mode_filter_is_the_most_frequent_label_of_the_cut_window(self, image, size):
        result = applied(f"mode_filter(size={size})", image)
        np.testing.assert_array_equal(result, mode_by_hand(image, size))

    @settings(max_examples=25, deadline=None)
    @given(image=label_maps(), area=st.integers(1, 9), connectivity=st.sampled_from([1, 2]))
    def test_remove_small_gives_specks_to_the_nearest_large_region(self, image, area, connectivity):
        spec = f"remove_small(min_area_px={area}, connectivity={connectivity})"
        steps = SIDES if connectivity == 1 else SIDES + CORNERS
        expected = remove_small_by_hand(image, area, steps)
        np.testing.assert_array_equal(applied(spec, image), expected)

    @settings(max_examples=25, deadline=None)
    @given(image=label_maps(), size=st.sampled_from([1, 3, 5]))
    def test_open_keeps_what_a_square_of_one_label_covers(self, image, size):
        result = applied(f"open(size={size})", image)
        np.testing.assert_array_equal(result, open_by_hand(image, size))

    @settings(max_examples=25, deadline=None)
    @given(image=label_maps(), area=st.integers(1, 9))
    def test_fill_holes_fills_what_one_class_encloses(self, image, area):
        result = applied(f"fill_holes(max_area_px={area})", image)
        np.testing.assert_array_equal(result, fill_by_hand(image, area))


@pytest.mark.parametrize(
    ("spec", "before", "after"),
    [
        pytest.param("mode_filter(size=3)", "111 121 111", "111 111 111", id="a speck is outvoted"),
        pytest.param("mode_filter(size=3)", "12", "12", id="a tie keeps the own label"),
        pytest.param("mode_filter(size=3)", "1221", "1221", id="the border has no vote"),
        pytest.param("mode_filter(size=1)", "123 321", "123 321", id="one pixel is no window"),
        pytest.param(
            "remove_small(min_area_px=3)", "1112 1122 1222", "1112 1122 1222", id="large ones stay"
        ),
        pytest.param(
            "remove_small(min_area_px=3)", "1113222", "1111222", id="of two as near, the lowest"
        ),
        pytest.param("remove_small(min_area_px=9)", "12 34", "12 34", id="all small, all stay"),
        pytest.param("remove_small(min_area_px=3)", "122 212 221", "222 222 222", id="sides join"),
        pytest.param(
            "remove_small(min_area_px=3, connectivity=2)",
            "122 212 221",
            "122 212 221",
            id="corners join",
        ),
        pytest.param(
            "remove_small(min_area_px=1)", "12 21", "12 21", id="one pixel is large enough"
        ),
        pytest.param("fill_holes", "111 121 111", "111 111 111", id="a hole is filled"),
        pytest.param("fill_holes", "111 121 121", "111 121 121", id="the border encloses nothing"),
        pytest.param(
            "fill_holes", "1111 1231 1111", "1111 1111 1111", id="a hole of two labels is one hole"
        ),
        pytest.param("fill_holes", "212 131 212", "212 111 212", id="corners enclose"),
        pytest.param(
            "fill_holes(max_area_px=1)",
            "1111 1221 1111",
            "1111 1221 1111",
            id="a large hole stays",
        ),
        pytest.param("open", "11111 11111 22222 11111 11111", "11111 " * 5, id="a line goes"),
        pytest.param("open", "121 212 121", "121 212 121", id="no square fits, all stay"),
        pytest.param(
            "open", "2211 2211 1111 1111", "2211 2211 1111 1111", id="the border erodes not"
        ),
    ],
)
def test_by_hand(spec, before, after):
    np.testing.assert_array_equal(applied(spec, drawn(before)), drawn(after))


def test_fill_holes_of_nested_rings_ends_with_one_class():
    image = np.full((9, 9), 2, dtype=np.uint8)
    image[2:7, 2:7] = 1
    image[3:6, 3:6] = 2
    image[4, 4] = 3
    result = applied("fill_holes(max_area_px=25)", image)
    assert (result == 2).all()


def test_regions_of_two_images_are_never_one():
    regions = Regions.of(np.ones((3, 2, 2), dtype=np.uint8), connectivity=2)
    np.testing.assert_array_equal(regions.areas, [4, 4, 4])
    np.testing.assert_array_equal(regions.images, [0, 1, 2])


def test_the_nearest_label_is_of_the_same_image():
    labels = np.array([[[1, 0]], [[0, 0]], [[0, 2]]], dtype=np.uint8)
    missing = labels == 0
    expected = [[[1, 1]], [[0, 0]], [[2, 2]]]
    np.testing.assert_array_equal(fill_with_nearest(labels, missing), expected)


def test_the_largest_window_does_not_overflow_its_counts():
    image = np.ones((300, 300), dtype=np.uint8)
    image[::2, ::2] = 2
    assert (applied("mode_filter(size=255)", image) == 1).all()


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ("mode_filter(size=4)", "got 4; expected an odd number of pixels"),
        ("mode_filter(size=0)", "got 0; expected greater than or equal to 1"),
        ("mode_filter(size=257)", "got 257; expected less than or equal to 255"),
        ("open(size=2)", "got 2; expected an odd number of pixels"),
        ("remove_small(min_area_px=0)", "got 0; expected greater than or equal to 1"),
        ("remove_small(connectivity=4)", "got 4; expected 1 or 2"),
        ("remove_small(area=4)", "no option 'area'; known: min_area_px, connectivity, refill"),
        ("fill_holes(max_area_px=-1)", "got -1; expected greater than or equal to 1"),
    ],
)
def test_refuses_an_option_out_of_range(spec, words):
    with pytest.raises(BadSpec, match=words):
        STEPS.build(spec, classes=3, ignore=0, floor=2.0**-25)
