from typing import Any

from evaluation.core.errors import shorten


def test_what_is_long_is_cut():
    assert shorten("a" * 10, most=12) == "'aaaaaaaaaa'"
    assert shorten("a" * 11, most=12) == "'aaaaaaaaaaa..."


def test_what_python_will_not_write_is_named_by_its_kind():
    assert shorten(10**5000) == "<int too long to be written>"
    nested: list[Any] = []
    for _ in range(10_000):
        nested = [nested]
    assert shorten(nested) == "<list too long to be written>"
