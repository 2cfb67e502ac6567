"""YAML 1.2: what a plain word means, and what is refused."""

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from evaluation.core.errors import BadSpec
from evaluation.core.safe_yaml import parse_yaml, read_yaml, write_yaml

words = st.text(st.characters(codec="utf-8", exclude_categories=["Cc", "Cs"]), max_size=8)
scalars = words | st.integers() | st.booleans() | st.none() | st.floats(allow_nan=False)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("true", True),
        ("False", False),
        ("null", None),
        ("~", None),
        ("", None),
        ("12", 12),
        ("-3", -3),
        ("0x1F", 31),
        ("0o17", 15),
        ("1e1", 10.0),
        ("1e-4", 1e-4),
        ("2.", 2.0),
        (".5", 0.5),
        ("-.inf", -math.inf),
        ("'12'", "12"),
    ],
)
def test_plain_words_of_yaml_1_2(text, value):
    found = parse_yaml(f"k: {text}")["k"]
    assert (type(found), found) == (type(value), value)


@pytest.mark.parametrize(
    "text",
    ["no", "yes", "On", "off", "y", "010", "0b1", "1_000", "1:30", "2024-01-02", "=", "<<"],
)
def test_words_that_only_yaml_1_1_reads_as_something_else_stay_text(text):
    assert parse_yaml(f"k: {text}") == {"k": text}


@pytest.mark.parametrize(
    "text",
    ["a: 1\na: 2", "{a: 1, 'a': 2}", "x: {b: 1, c: 2, b: 1}", "[{a: 1, a: 1}]", "1: a\n1: b"],
)
def test_a_repeated_key_is_refused_with_its_line(text):
    with pytest.raises(BadSpec, match=r"the key '\w' is given twice.*line \d"):
        parse_yaml(text)


@pytest.mark.parametrize("text", ["a: !!int 010", "!!bool yes", "a: !!str 1", "!!map {a: 1}"])
def test_a_tag_is_refused(text):
    with pytest.raises(BadSpec, match=r"a tag, .*; write the value without it"):
        parse_yaml(text)


@settings(max_examples=50, deadline=None)
@given(st.recursive(scalars, lambda inner: st.lists(inner) | st.dictionaries(words, inner)))
def test_what_was_written_is_read_again(tmp_path_factory, document):
    file = tmp_path_factory.getbasetemp() / "document.yaml"
    write_yaml(file, document)
    assert read_yaml(file, "it") == document


def test_a_byte_order_mark_is_no_part_of_the_first_key(tmp_path):
    file = tmp_path / "bom.yaml"
    file.write_bytes(b"\xef\xbb\xbfseed: 1\n")
    assert read_yaml(file, "it") == {"seed": 1}
