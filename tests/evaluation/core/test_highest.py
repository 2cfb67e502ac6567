"""The class with the highest score."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from evaluation.core.arrays import argmax


@given(seed=st.integers(0, 2**32 - 1), classes=st.integers(1, 7), axis=st.integers(0, 3))
def test_it_is_argmax_along_any_axis(seed, classes, axis):
    shape = [3, 2, 4]
    shape.insert(axis, classes)
    # Few values, so that many are equal.
    scores = np.random.default_rng(seed).integers(0, 3, shape).astype(np.float32)
    found = argmax(scores, axis=axis)
    assert found.dtype == np.uint8
    np.testing.assert_array_equal(found, scores.argmax(axis=axis))


@pytest.mark.parametrize("place", [0, 100, 254])
def test_255_classes_fit(place):
    scores = np.zeros((2, 255, 3, 4), np.float32)
    scores[:, place] = 1
    assert (argmax(scores) == place).all()


def test_the_scores_stay_as_they_were():
    scores = np.random.default_rng(0).random((2, 3, 4, 5))
    before = scores.copy()
    argmax(scores)
    np.testing.assert_array_equal(scores, before)
