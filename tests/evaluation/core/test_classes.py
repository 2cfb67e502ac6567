"""Class names, colours and the ignored class."""

import numpy as np
import pytest

from evaluation.core.classes import (
    MARS,
    PALETTE,
    UNLABELLED,
    Classes,
    numbered,
)
from evaluation.core.errors import BadData, BadLabels


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


MARKED = Classes(("a", "b"), values=(10, 20), unlabelled=(0, 255))


def test_stored_values_become_class_indices_and_come_back():
    stored = np.array([[10, 20, 0, 255]], np.uint8)
    np.testing.assert_array_equal(MARKED.indices(stored), [[0, 1, UNLABELLED, UNLABELLED]])
    np.testing.assert_array_equal(MARKED.stored(np.array([1, 0, 1])), [20, 10, 20])


@pytest.mark.parametrize(
    ("stored", "complete", "words"),
    [([10, 30, 7], False, "holds 7, 30; expected 10, 20"), ([10, 0], True, "holds 0; expected")],
)
def test_a_stored_value_of_no_class_is_refused(stored, complete, words):
    with pytest.raises(BadLabels, match=words):
        MARKED.indices(np.array(stored, np.uint8), complete=complete)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"values": [10]}, "1 stored values for 2 classes; expected one per class"),
        ({"values": [10, 300]}, "stored value 300; expected a whole number, 0 to 255"),
        ({"colours": None}, "classes lack names, ignore or colours"),
    ],
)
def test_damaged_classes_are_refused(change, words):
    assert Classes.from_dict(MARKED.to_dict()) == MARKED
    with pytest.raises(BadData, match=words):
        Classes.from_dict(MARKED.to_dict() | change)
