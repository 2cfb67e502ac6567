"""Definitions of the score: laws of any protocol, and cases by hand that tell them apart."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from evaluation.ground.errors import BadSpec
from evaluation.iou import mean_over_present, overlap
from evaluation.protocols import PROTOCOLS

law = settings(max_examples=25, deadline=None)
CLASSES = 4
ignored = st.none() | st.integers(0, CLASSES - 1)
few = st.integers(0, 3)  # absent classes are frequent
tables = hnp.arrays(np.int64, (CLASSES, CLASSES), elements=few)
stacks = hnp.arrays(np.int64, (2, 3, CLASSES, CLASSES), elements=few)

DESIGN = np.array(
    [[5, 2, 0, 1, 0], [1, 4, 0, 0, 0], [1, 1, 3, 0, 0], [0, 0, 1, 1, 0], [0, 0, 0, 0, 0]]
)


def scored(name, counts, ignore):
    return PROTOCOLS.build(name)(np.asarray(counts), ignore)


def by_pixels(counts, ignore):
    """IoU the slow way: a list of pixels, and sets of them."""
    pixels = [
        (true, guess, copy)
        for (true, guess), number in np.ndenumerate(counts)
        for copy in range(number)
        if true != ignore
    ]
    for label in range(len(counts)):
        true, guess = ({p for p in pixels if p[part] == label} for part in (0, 1))
        yield len(true & guess) / len(true | guess) if true | guess else np.nan


@pytest.mark.parametrize("name", sorted(PROTOCOLS))
class TestEveryProtocol:
    """What holds for any definition; a new one is checked by being in the table."""

    @law
    @given(counts=tables, row=hnp.arrays(np.int64, CLASSES, elements=few), ignore=st.integers(0, 3))
    def test_what_is_guessed_on_ignored_pixels_has_no_effect(self, name, counts, row, ignore):
        changed = counts.copy()
        changed[ignore] = row
        for field in ("iou", "miou"):
            before, after = (getattr(scored(name, c, ignore), field) for c in (counts, changed))
            np.testing.assert_array_equal(before, after)

    @law
    @given(counts=tables, ignore=ignored)
    def test_the_mean_is_that_of_the_classes_with_a_value(self, name, counts, ignore):
        found = scored(name, counts, ignore)
        values = found.iou[~np.isnan(found.iou)]
        np.testing.assert_allclose(found.miou, values.mean() if len(values) else np.nan)

    @law
    @given(counts=tables, ignore=ignored)
    def test_scores_lie_between_0_and_1(self, name, counts, ignore):
        found = scored(name, counts, ignore)
        values = [found.miou, *found.iou]
        assert all(np.isnan(value) or 0 <= value <= 1 for value in values)

    @law
    @given(counts=stacks, ignore=ignored)
    def test_many_sets_at_once_score_like_each_alone(self, name, counts, ignore):
        together = scored(name, counts, ignore)
        for place in np.ndindex(2, 3):
            alone = scored(name, counts[place], ignore)
            np.testing.assert_array_equal(together.miou[place], alone.miou)
            np.testing.assert_array_equal(together.iou[place], alone.iou)

    @law
    @given(counts=tables, ignore=ignored, order=st.permutations(range(CLASSES)))
    def test_the_order_of_the_classes_has_no_effect(self, name, counts, ignore, order):
        moved = None if ignore is None else order.index(ignore)
        np.testing.assert_allclose(
            scored(name, counts[np.ix_(order, order)], moved).miou,
            scored(name, counts, ignore).miou,
        )

    @law
    @given(counts=tables, ignore=ignored)
    def test_the_counts_are_left_as_they_were(self, name, counts, ignore):
        before = counts.copy()
        scored(name, counts, ignore)
        np.testing.assert_array_equal(counts, before)

    @law
    @given(counts=tables)
    def test_without_an_ignored_class_all_definitions_agree(self, name, counts):
        np.testing.assert_array_equal(
            scored(name, counts, None).miou, scored("masked", counts, None).miou
        )

    def test_nothing_counted_is_nan(self, name):
        assert np.isnan(scored(name, np.zeros((3, 3), int), 0).miou)
        only_ignored = [[4, 2], [0, 0]]
        assert np.isnan(scored(name, only_ignored, 0).miou)


@law
@given(tables, ignored)
def test_overlap_is_intersection_over_union_of_pixels(counts, ignore):
    np.testing.assert_allclose(overlap(counts, ignore), list(by_pixels(counts, ignore)))


@law
@given(tables, st.integers(0, 3))
def test_keras_is_never_above_masked(counts, ignore):
    keras, masked = (scored(name, counts, ignore).miou for name in ("keras", "masked"))
    assert (np.isnan(masked) and (np.isnan(keras) or keras == 0)) or keras <= masked


@pytest.mark.parametrize(
    ("name", "expected"),
    [("masked", (4 / 6 + 3 / 6 + 1 / 2) / 3), ("keras", (4 / 6 + 3 / 6 + 1 / 2) / 4)],
)
def test_one_valid_pixel_guessed_as_background_costs_keras_a_class(name, expected):
    found = scored(name, DESIGN, 0)
    np.testing.assert_allclose(found.miou, expected)
    np.testing.assert_allclose(found.iou[1:4], [4 / 6, 3 / 6, 1 / 2])
    assert np.isnan(found.iou[4])


def test_the_published_numbers_of_that_table():
    assert round(float(scored("masked", DESIGN, 0).miou), 4) == 0.5556
    assert round(float(scored("keras", DESIGN, 0).miou), 4) == 0.4167


@pytest.mark.parametrize(
    ("counts", "ignore", "masked", "keras"),
    [
        pytest.param([[0, 0], [0, 3]], 0, 1.0, 1.0, id="no background guessed: no fifth class"),
        pytest.param([[0, 0], [3, 0]], 0, 0.0, 0.0, id="all guessed as background is 0"),
        pytest.param([[9, 9], [1, 3]], 0, 0.75, 0.375, id="a missed pixel halves keras' mean"),
        pytest.param([[1, 0], [0, 0]], None, 1.0, 1.0, id="absent is left out, not 0"),
        pytest.param([[1, 1], [0, 0]], None, 0.25, 0.25, id="only guessed is 0, not absent"),
        pytest.param([[1, 0], [1, 0]], 1, 1.0, 1.0, id="any class can be the ignored one"),
    ],
)
def test_by_hand(counts, ignore, masked, keras):
    assert scored("masked", counts, ignore).miou == masked
    assert scored("keras", counts, ignore).miou == keras


def test_the_mean_over_nothing_is_nan():
    assert np.isnan(mean_over_present(np.array([np.nan, np.nan])))


def test_an_unknown_protocol_is_refused_with_the_known_ones():
    with pytest.raises(BadSpec, match="unknown protocol 'maskd'; known: keras, masked"):
        PROTOCOLS.build("maskd")
