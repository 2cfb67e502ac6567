"""What takes the place of removed regions: by hand, and against brute force."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from evaluation.core.arrays import argmax
from evaluation.core.errors import BadSpec
from postproc.regions import Regions, fill_with_majority
from postproc.steps import STEPS

CLASSES = 4
SIDES = [(-1, 0), (1, 0), (0, -1), (0, 1)]
seeds = st.integers(0, 2**32 - 1)
sides = st.integers(1, 8)


def drawn(text):
    """Read an image of digits, a row a word."""
    return np.array([[int(sign) for sign in row] for row in text.split()], dtype=np.uint8)


def build(spec, *, ignore=None, classes=CLASSES):
    return STEPS.build(spec, classes=classes, ignore=ignore, floor=2.0**-25)


def applied(spec, text):
    return build(spec).apply(drawn(text)[None], None)[0]


def certain(text, **second):
    """Maps that give each pixel its label .6, and a second class .3 where one is said by place."""
    labels = drawn(text)
    maps = np.where(labels == np.arange(CLASSES)[:, None, None], 0.6, 0.0).astype(np.float32)
    for place, label in second.items():
        row, col = (int(sign) for sign in place[1:])
        maps[label, row, col] = 0.3
    return maps[None]


@pytest.mark.parametrize(
    ("spec", "before", "after"),
    [
        pytest.param(
            "remove_small(min_area_px=[1, 1, 3, 1])",
            "1211 1111 3111",
            "1111 1111 3111",
            id="an area for each class",
        ),
        pytest.param(
            "remove_small(min_area_px=3)", "1111 2231 2222", "1111 2211 2222", id="the nearest"
        ),
        pytest.param(
            "remove_small(min_area_px=3, refill=majority)",
            "1111 2231 2232 2222",
            "1111 2221 2222 2222",
            id="a gap goes as a whole to what most of its sides have",
        ),
        pytest.param(
            "remove_small(min_area_px=2, refill=majority)",
            "11322",
            "11122",
            id="of two as frequent, the lowest",
        ),
        pytest.param(
            "remove_small(min_area_px=2, refill=majority)",
            "12 30",
            "12 30",
            id="all small, all stay",
        ),
        pytest.param("keep_largest", "11022 00000 10002", "11022 00000 00000", id="one a class"),
        pytest.param("keep_largest", "10 01", "10 10", id="of two as large, the first met"),
        pytest.param(
            "keep_largest(only=[2])", "11022 00000 10002", "11022 00000 10000", id="only of class 2"
        ),
        pytest.param("keep_largest(connectivity=2)", "10 01", "10 01", id="corners join"),
        pytest.param("keep_largest(count=2)", "1101011", "1100011", id="the two largest"),
        pytest.param(
            "keep_largest(together=true, background=0)", "12003330", "00003330", id="together"
        ),
        pytest.param(
            "keep_largest(together=true, only=[1, 2])", "120222", "000222", id="of the named"
        ),
        pytest.param(
            "keep_largest(refill=background, background=3)", "11022012", "11022333", id="background"
        ),
        pytest.param(
            "remove_small(min_area_px=2, refill=background, background=3)",
            "12 30",
            "33 33",
            id="all small, all background",
        ),
    ],
)
def test_by_hand(spec, before, after):
    np.testing.assert_array_equal(applied(spec, before), drawn(after))


@pytest.mark.parametrize(
    ("second", "ignore", "expected"),
    [
        pytest.param({"p11": 3}, None, 3, id="the next best class"),
        pytest.param({"p11": 3}, 3, 1, id="never the ignored one, then the nearest"),
        pytest.param({}, None, 1, id="the nearest where no other has a chance"),
    ],
)
def test_next_best_by_hand(second, ignore, expected):
    maps = certain("111 121 111", **second)
    result = build("remove_small(min_area_px=2, refill=next_best)", ignore=ignore).apply(maps, None)
    after = np.ones((1, 3, 3), dtype=np.uint8)
    after[0, 1, 1] = expected
    np.testing.assert_array_equal(result, after)


@settings(max_examples=25, deadline=None)
@given(seed=seeds, rows=sides, cols=sides, ignore=st.sampled_from([None, 0]))
@pytest.mark.parametrize("name", ["remove_small", "keep_largest"])
def test_next_best_takes_the_second_choice_of_what_is_removed_alone(name, seed, rows, cols, ignore):
    rng = np.random.default_rng(seed)
    maps = np.moveaxis(rng.dirichlet(np.ones(CLASSES), (2, rows, cols)), -1, 1).astype(np.float32)
    labels = argmax(maps)
    area = "min_area_px=3, " if name == "remove_small" else ""
    result = build(f"{name}({area}refill=next_best)", ignore=ignore).apply(maps, None)
    regions = Regions.of(labels)
    small = regions.areas < 3
    if name == "keep_largest":
        small = np.array(
            [
                any(
                    (regions.areas[k], -k) > (regions.areas[n], -n)
                    for k in range(len(small))
                    if (regions.labels[k], regions.images[k])
                    == (regions.labels[n], regions.images[n])
                )
                for n in range(len(small))
            ]
        )
    gone = regions.paint(small)
    gone &= ~gone.all(axis=(1, 2), keepdims=True)
    others = maps.copy()
    np.put_along_axis(others, labels[:, None].astype(np.intp), -1, axis=1)
    if ignore is not None:
        others[:, ignore] = -1
    np.testing.assert_array_equal(result, np.where(gone, others.argmax(axis=1), labels))


@settings(max_examples=40, deadline=None)
@given(seed=seeds, rows=sides, cols=sides)
def test_a_gap_takes_the_most_frequent_label_beside_it(seed, rows, cols):
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, CLASSES, (1, rows, cols), dtype=np.uint8)
    missing = rng.random(labels.shape) < 0.4
    gaps = Regions.of(missing.view(np.uint8)).numbers()[0]
    expected = labels[0].copy()
    for gap in np.unique(gaps[missing[0]]):
        votes = np.zeros(CLASSES, dtype=int)
        for row, col in np.argwhere(gaps == gap):
            for down, right in SIDES:
                r, c = row + down, col + right
                if 0 <= r < rows and 0 <= c < cols and not missing[0, r, c]:
                    votes[labels[0, r, c]] += 1
        if votes.any():
            expected[gaps == gap] = votes.argmax()
    np.testing.assert_array_equal(fill_with_majority(labels, missing)[0], expected)


@pytest.mark.parametrize("name", ["remove_small", "keep_largest"])
@pytest.mark.parametrize("refill", ["neighbour", "majority", "next_best", "background"])
def test_only_next_best_takes_maps(name, refill):
    step = build(f"{name}(refill={refill})", ignore=0)
    assert step.input == ("maps" if refill == "next_best" else "labels")
    assert step.output == "labels"


@pytest.mark.parametrize("classes", [2, 255])
def test_regions_of_any_number_of_labels_are_found_at_once(classes):
    labels = np.random.default_rng(0).integers(0, classes, (2, 9, 8), dtype=np.uint8)
    regions = Regions.of(labels, connectivity=2)
    np.testing.assert_array_equal(regions.paint(regions.labels), labels)
    np.testing.assert_array_equal(np.bincount(regions.numbers().ravel()), regions.areas)


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        (
            "remove_small(min_area_px=[9, 9])",
            "min_area_px has 2 numbers; expected 4, one per class",
        ),
        ("remove_small(min_area_px=[9, 9, 0, 9])", "option 'min_area_px' got [9, 9, 0, 9]"),
        ("remove_small(min_area_px=-5)", "option 'min_area_px' got -5"),
        ("remove_small(refill=nearest)", "expected 'neighbour', 'majority', 'next_best' or"),
        ("keep_largest(connectivity=0)", "option 'connectivity' got 0; expected 1 or 2"),
        ("keep_largest(only=[4])", "only=[4]; expected classes from 0 to 3"),
        ("keep_largest(only=[-1])", "option 'only' got [-1]"),
        ("keep_largest(only=[])", "only=[]; expected classes from 0 to 3"),
        ("keep_largest(together=true)", "no class is ignored; write background=INDEX"),
        ("keep_largest(refill=background)", "no class is ignored; write background=INDEX"),
        ("remove_small(refill=background)", "no class is ignored; write background=INDEX"),
        ("remove_small(background=4)", "background=4; expected a class from 0 to 3"),
        ("keep_largest(only=[0, 1], background=0)", "only=[0, 1] contains the background"),
        ("keep_largest(count=0)", "option 'count' got 0"),
        ("fill_holes(only=[9])", "only=[9]; expected classes from 0 to 3"),
        ("close(only=[9])", "only=[9]; expected classes from 0 to 3"),
    ],
)
def test_refuses_an_option_that_makes_no_sense(spec, words):
    with pytest.raises(BadSpec) as refusal:
        build(spec)
    assert words in str(refusal.value)
    assert spec.split("(")[0] in str(refusal.value)
