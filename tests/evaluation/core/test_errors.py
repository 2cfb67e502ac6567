from typing import Any

from evaluation.core.errors import shorten, unknown


def test_a_long_value_is_cut():
    assert shorten("a" * 10, limit=12) == "'aaaaaaaaaa'"
    assert shorten("a" * 11, limit=12) == "'aaaaaaaaaaa..."


def test_a_value_that_python_cannot_write_is_named_by_its_type():
    assert shorten(10**5000) == "<int too long to be written>"
    nested: list[Any] = []
    for _ in range(10_000):
        nested = [nested]
    assert shorten(nested) == "<list too long to be written>"


def test_an_unknown_name_is_named_with_the_known_ones_in_order():
    assert unknown("step", "blurr", {"open": 1, "blur": 2}) == (
        "unknown step 'blurr'; known: blur, open"
    )
