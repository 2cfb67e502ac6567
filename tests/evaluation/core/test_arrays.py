"""argmax along any axis, and evenly spaced indices."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from evaluation.core.arrays import argmax, evenly_spaced, view_image


@given(seed=st.integers(0, 2**32 - 1), classes=st.integers(1, 7), axis=st.integers(0, 3))
def test_argmax_is_that_of_numpy_along_any_axis(seed, classes, axis):
    shape = [3, 2, 4]
    shape.insert(axis, classes)
    # Few values, so that many are equal.
    scores = np.random.default_rng(seed).integers(0, 3, shape).astype(np.float32)
    result = argmax(scores, axis=axis)
    assert result.dtype == np.uint8
    np.testing.assert_array_equal(result, scores.argmax(axis=axis))


@pytest.mark.parametrize("index", [0, 100, 254])
def test_255_classes_fit(index):
    scores = np.zeros((2, 255, 3, 4), np.float32)
    scores[:, index] = 1
    assert (argmax(scores) == index).all()


def test_argmax_does_not_change_the_scores():
    scores = np.random.default_rng(0).random((2, 3, 4, 5))
    before = scores.copy()
    argmax(scores)
    np.testing.assert_array_equal(scores, before)


@pytest.mark.parametrize(
    ("length", "count", "indices"),
    [
        (10, 4, [0, 3, 6, 9]),
        (3, 12, [0, 1, 2]),
        (5, 1, [0]),
        (1, 3, [0]),
        (0, 3, []),
        (1000, 3, [0, 499, 999]),
    ],
    ids=["first and last", "more than there are", "one", "one of one", "of none", "rounded down"],
)
def test_evenly_spaced_indices_by_hand(length, count, indices):
    assert evenly_spaced(length, count) == indices


@pytest.mark.parametrize("length", range(1, 200, 7))
def test_evenly_spaced_indices_are_distinct(length):
    result = evenly_spaced(length, 60)
    assert len(set(result)) == len(result) == min(60, length)
    assert result == sorted(result)
    assert result[0] == 0
    assert result[-1] == length - 1


def test_pixels_of_more_than_8_bits_are_stretched_between_two_percentiles_to_be_seen():
    image = np.arange(101, dtype=np.uint16).reshape(1, 1, 101) * 600
    shown = view_image(image)
    assert shown.shape == (1, 101, 3)
    assert (shown[..., 0] == shown[..., 2]).all()
    grey = shown[0, :, 0].astype(int)
    assert (grey[:3] == 0).all()
    assert (grey[98:] == 255).all()
    np.testing.assert_array_equal(grey[2:99], np.round(255 * np.arange(97) / 96))
    assert (view_image(np.full((4, 2, 2), 0.5, np.float32)) == 0).all()
