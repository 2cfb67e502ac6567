"""Class names, colours and the ignored class."""

import pytest

from evaluation.core.classes import (
    MARS,
    PALETTE,
    UNLABELLED,
    Classes,
    numbered,
)
from evaluation.core.errors import BadData


def test_the_scored_classes_are_all_but_the_ignored_one():
    assert MARS.scored == (1, 2, 3, 4)
    assert Classes(("a", "b")).scored == (0, 1)


@pytest.mark.parametrize("count", [2, len(PALETTE) + 1, 255])
def test_any_number_of_classes_gets_a_colour_each(count):
    classes = numbered(count, ignore=None)
    assert len(classes) == len(set(classes.colours)) == len(classes.colours) == count
    assert classes.names[-1] == str(count - 1)


def test_no_class_has_the_label_of_unlabelled_pixels():
    assert max(numbered(255, ignore=None).scored) < UNLABELLED


@pytest.mark.parametrize(
    ("names", "ignore", "colours", "words"),
    [
        (("a",), None, (), "1 classes named; expected 2 to 255"),
        (tuple(map(str, range(256))), None, (), "256 classes named; expected 2 to 255"),
        (("a", "b", "a"), None, (), "class name 'a' is given twice; expected distinct names"),
        (("a", "b"), 2, (), "ignored class 2; expected 0 to 1"),
        (("a", "b"), -1, (), "ignored class -1; expected 0 to 1"),
        (("a", "b"), 0, ("#000000",), "1 colours for 2 classes; expected one per class"),
    ],
)
def test_inconsistent_classes_are_refused(names, ignore, colours, words):
    with pytest.raises(BadData, match=words):
        Classes(names, ignore, colours)


@pytest.mark.parametrize(
    ("names", "colours", "words"),
    [
        (("a\n", "b"), (), r"class name 'a\\n'; expected a word"),
        (("a", "b"), ("#000000", "red"), "colour 'red'; expected #rrggbb"),
        (("a", "b"), ("#000000", "#00000g"), "colour '#00000g'; expected #rrggbb"),
    ],
)
def test_a_name_or_colour_that_cannot_be_shown_is_refused(names, colours, words):
    with pytest.raises(BadData, match=words):
        Classes(names, None, colours)
