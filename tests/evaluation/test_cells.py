"""Numbers and columns as tables write them."""

import math

import pytest

from evaluation.formatting import (
    decimal,
    document_ends,
    format_interval,
    in_columns,
    ruled,
)
from evaluation.intervals import Interval


@pytest.mark.parametrize(
    ("value", "sign", "text"),
    [
        (0.5064, "", ".506"),
        (-0.0126, "+", "-.013"),
        (0.0126, "+", "+.013"),
        (1.0, "", "1.000"),
        (10.5, "", "10.500"),
        (-20.25, "+", "-20.250"),
        (-0.0001, "+", "+.000"),
        (None, "", "-"),
        (math.nan, "+", "-"),
    ],
)
def test_only_a_zero_that_leads_is_left_out(value, sign, text):
    assert decimal(value, sign) == text


def test_more_places_can_be_asked_for():
    assert decimal(0.50644, places=4) == ".5064"


def test_ends_are_the_same_from_a_document():
    assert format_interval(Interval(-0.1, 0.2, 0.95), "+") == "-.100 to +.200"
    assert document_ends({"low": -0.1, "high": 0.2}, "+") == "-.100 to +.200"
    assert format_interval(None) == document_ends(None) == "-"


def test_columns_are_as_wide_as_their_widest_cell():
    lines = in_columns([["name", "x"], ["a", "12"]], left=1)
    assert lines == ["name   x", "a     12"]
    assert ruled(lines) == ["name   x", "--------", "a     12"]
