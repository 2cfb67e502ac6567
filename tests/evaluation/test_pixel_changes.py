"""The pixel ledger: cases by hand, laws, what is refused."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from evaluation.confusion import (
    BROKEN,
    CHANGE_KINDS,
    FIXED,
    MOVED,
    confusion,
    pixel_changes,
    scored_pixels,
)
from evaluation.core.classes import UNLABELLED
from evaluation.core.errors import BadLabels

law = settings(max_examples=50, deadline=None)


@st.composite
def steps(draw, count=2):
    """Target with gaps, labels after each of some steps, classes, and the ignored class."""
    classes = draw(st.integers(2, 6))
    shape = draw(hnp.array_shapes(min_dims=3, max_dims=3, max_side=6))
    label = st.integers(0, classes - 1)
    target = draw(hnp.arrays(np.uint8, shape, elements=label | st.just(UNLABELLED)))
    labels = [draw(hnp.arrays(np.uint8, shape, elements=label)) for _ in range(count)]
    return target, labels, classes, draw(st.none() | label)


def right_pixels(target, labels, classes, ignore):
    """Count the right pixels of each scored class, by way of the confusion counts."""
    right = np.diagonal(confusion(target, labels, classes=classes).sum(axis=0)).copy()
    if ignore is not None:
        right[ignore] = 0
    return right


class TestLaws:
    @law
    @given(steps())
    def test_fixed_minus_broken_is_the_change_in_correct_pixels(self, sampled):
        target, (before, after), classes, ignore = sampled
        result = pixel_changes(target, before, after, classes=classes, ignore=ignore)
        gained = right_pixels(target, after, classes, ignore) - right_pixels(
            target, before, classes, ignore
        )
        np.testing.assert_array_equal(result[:, FIXED] - result[:, BROKEN], gained)

    @law
    @given(steps())
    def test_each_changed_scored_pixel_is_counted_once_in_its_class(self, sampled):
        target, (before, after), classes, ignore = sampled
        result = pixel_changes(target, before, after, classes=classes, ignore=ignore)
        expected = [
            0 if label == ignore else np.count_nonzero((target == label) & (before != after))
            for label in range(classes)
        ]
        np.testing.assert_array_equal(result.sum(axis=1), expected)

    @law
    @given(steps(count=3))
    def test_the_net_of_a_chain_is_the_sum_over_its_steps(self, sampled):
        target, (first, second, third), classes, ignore = sampled

        def net(before, after):
            result = pixel_changes(target, before, after, classes=classes, ignore=ignore)
            return result[:, FIXED] - result[:, BROKEN]

        np.testing.assert_array_equal(net(first, second) + net(second, third), net(first, third))

    @law
    @given(steps())
    def test_undoing_a_step_exchanges_fixed_and_broken(self, sampled):
        target, (before, after), classes, ignore = sampled
        there = pixel_changes(target, before, after, classes=classes, ignore=ignore)
        back = pixel_changes(target, after, before, classes=classes, ignore=ignore)
        np.testing.assert_array_equal(there, back[:, [BROKEN, FIXED, MOVED]])

    @law
    @given(steps())
    def test_counts_of_images_add_up(self, sampled):
        target, (before, after), classes, ignore = sampled
        each = [
            pixel_changes(target[k : k + 1], before[k : k + 1], after[k : k + 1], classes=classes,
                    ignore=ignore)
            for k in range(len(target))
        ]  # fmt: skip
        whole = pixel_changes(target, before, after, classes=classes, ignore=ignore)
        np.testing.assert_array_equal(sum(each), whole)


@pytest.mark.parametrize(
    ("true", "before", "after", "change"),
    [
        pytest.param(1, 2, 1, "fixed", id="wrong becomes right"),
        pytest.param(1, 1, 2, "broken", id="right becomes wrong"),
        pytest.param(1, 0, 2, "moved", id="wrong becomes another wrong"),
        pytest.param(1, 1, 1, None, id="right stays right"),
        pytest.param(1, 2, 2, None, id="wrong stays wrong"),
        pytest.param(0, 1, 0, None, id="ignored target is left out"),
        pytest.param(UNLABELLED, 1, 2, None, id="unlabelled target is left out"),
    ],
)
def test_a_pixel_by_hand(true, before, after, change):
    pixel = [np.full((1, 1, 1), label, np.uint8) for label in (true, before, after)]
    expected = np.zeros((3, 3), int)
    if change is not None:
        expected[true, CHANGE_KINDS.index(change)] = 1
    np.testing.assert_array_equal(pixel_changes(*pixel, classes=3, ignore=0), expected)


def test_without_an_ignored_class_the_lowest_class_counts_too():
    target, before, after = (np.full((1, 1, 2), label, np.uint8) for label in (0, 1, 0))
    assert pixel_changes(target, before, after, classes=2, ignore=None)[0].tolist() == [2, 0, 0]


def test_labels_of_another_shape_are_refused():
    target, other = np.zeros((1, 2, 2), np.uint8), np.zeros((1, 2, 3), np.uint8)
    with pytest.raises(BadLabels, match=r"after has shape \(1, 2, 3\); expected \(1, 2, 2\)"):
        pixel_changes(target, target, other, classes=2, ignore=0)


def test_target_outside_the_classes_is_refused():
    target = np.array([[[0, 7]]], np.uint8)
    labels = np.zeros_like(target)
    with pytest.raises(BadLabels, match=r"target holds \[7\]; expected 0 to 2 and 255"):
        pixel_changes(target, labels, labels, classes=3, ignore=0)


def test_pixels_are_scored_if_they_are_labelled_and_not_ignored():
    target = np.array([0, 1, UNLABELLED, 2])
    np.testing.assert_array_equal(scored_pixels(target, 0), [False, True, False, True])
    np.testing.assert_array_equal(scored_pixels(target, None), [True, True, False, True])
