"""Numbers and columns as tables write them."""

import math

import pytest

from evaluation.formatting import (
    format_columns,
    format_decimal,
    format_interval,
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
def test_only_a_leading_zero_is_omitted(value, sign, text):
    assert format_decimal(value, sign) == text


def test_the_number_of_decimals_is_an_option():
    assert format_decimal(0.50644, places=4) == ".5064"


def test_both_ends_of_an_interval_are_written_also_from_a_json_document():
    assert format_interval(Interval(-0.1, 0.2, 0.95), "+") == "-.100 to +.200"
    assert format_interval({"low": -0.1, "high": 0.2}, "+") == "-.100 to +.200"
    assert format_interval(None) == "-"


ROWS = [["name", "x"], ["a", "12"]]


def test_columns_are_as_wide_as_their_widest_cell():
    assert format_columns(ROWS, left=1) == ["name   x", "a     12"]
    assert format_columns(ROWS, left=1, rule=True) == ["name   x", "--------", "a     12"]


def test_a_table_looks_the_same_in_a_narrow_coloured_terminal(monkeypatch):
    wide = [["[bold]name[/bold]", ":smile:"], ["a" * 300, ""]]
    expected = [f"{'[bold]name[/bold]':300}  :smile:", "a" * 300]
    monkeypatch.setenv("COLUMNS", "20")
    monkeypatch.setenv("FORCE_COLOR", "1")
    assert format_columns(wide, left=1) == expected
