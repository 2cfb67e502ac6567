"""A few of many, evenly spaced."""

import pytest

from evaluation.core.arrays import evenly_spaced


@pytest.mark.parametrize(
    ("length", "count", "places"),
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
def test_places_by_hand(length, count, places):
    assert evenly_spaced(length, count) == places


@pytest.mark.parametrize("length", range(1, 200, 7))
def test_no_place_comes_twice(length):
    found = evenly_spaced(length, 60)
    assert len(set(found)) == len(found) == min(60, length)
    assert found == sorted(found)
    assert found[0] == 0
    assert found[-1] == length - 1
