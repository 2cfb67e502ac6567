"""Lines and tables that a user wrote: read whole, or refused in one line."""

import pytest

from evaluation.core.errors import BadData, BadSpec
from evaluation.core.text_files import read_heading, read_lines, read_table


@pytest.mark.parametrize("content", [b"a\nb\n", b"\xef\xbb\xbfa\r\nb", b"a\nb"])
def test_lines_are_read_with_any_mark_and_line_end(tmp_path, content):
    (tmp_path / "t").write_bytes(content)
    assert read_lines(tmp_path / "t", "one id per line") == ["a", "b"]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (None, r"t is missing; expected one id per line"),
        (b"\xff\xfea", r"t cannot be read \(.*\); expected one id per line, in UTF-8"),
    ],
)
def test_what_is_no_text_is_refused_as_the_caller_wants(tmp_path, content, words):
    if content is not None:
        (tmp_path / "t").write_bytes(content)
    with pytest.raises(BadSpec, match=words):
        read_lines(tmp_path / "t", "one id per line", BadSpec)


def test_a_table_is_read_by_its_heading_with_quoted_fields_and_without_empty_lines(tmp_path):
    (tmp_path / "t.csv").write_text('\ufeffname,group\na,"x, y"\n\nb,\n')
    assert read_table(tmp_path / "t.csv") == [
        {"name": "a", "group": "x, y"},
        {"name": "b", "group": ""},
    ]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (None, "t.csv is missing; expected a CSV table with a heading"),
        (b"name,group\na,x, y\n", "line 2: 3 fields; expected 2, as in the heading"),
        (b"name,group\na,x\nb\n", "line 3: 1 field; expected 2, as in the heading"),
        (b"name,group,name\na,x,b\n", "has columns name, group, name; expected distinct names"),
        (b"name,group\n\xff,x\n", r"cannot be read \(.*\); expected a CSV table .*, in UTF-8"),
        (b"name\n" + b"a" * 200_000, "field larger than field limit"),
    ],
)
def test_a_table_of_which_a_field_would_be_lost_or_made_up_is_refused(tmp_path, content, words):
    if content is not None:
        (tmp_path / "t.csv").write_bytes(content)
    with pytest.raises(BadData, match=words):
        read_table(tmp_path / "t.csv")


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (None, []),
        (b"", []),
        (b"\xef\xbb\xbfname,group\n\xff", ["name", "group"]),
        (b"a" * 200_000, []),
    ],
)
def test_the_heading_is_read_without_judging_the_rest(tmp_path, content, expected):
    if content is not None:
        (tmp_path / "t.csv").write_bytes(content)
    assert read_heading(tmp_path / "t.csv") == expected
