"""What users say about classes: options, files, and how they meet the values of masks."""

import json

import pytest

from evaluation.core.classes import MARS, numbered
from evaluation.core.errors import BadLabels, BadSpec
from evaluation.core.label_options import (
    LabelOptions,
    options_from_dict,
    parse_classes,
    read_colours,
)

CAMVID = range(12)


def test_a_void_value_after_the_classes_is_left_out():
    classes = LabelOptions(tuple("abcdefghijk"), unlabelled=11).resolve(CAMVID)
    assert (classes.values, classes.unlabelled) == (tuple(range(11)), (11, 255))


def test_a_void_value_before_the_classes_shifts_them():
    classes = LabelOptions(150, unlabelled=0).resolve(range(151))
    assert classes.values == tuple(range(1, 151))


def test_names_that_count_the_void_value_as_a_class_are_refused():
    with pytest.raises(BadSpec, match="give the 11 other classes"):
        LabelOptions(tuple("abcdefghijkl"), unlabelled=11).resolve(CAMVID)


def test_the_void_value_may_be_an_ignored_class_instead():
    classes = LabelOptions(ignore=11).resolve(CAMVID)
    assert (len(classes), classes.ignore, classes.unlabelled) == (12, 11, (255,))


@pytest.mark.parametrize("none", ["none", 255])
def test_none_takes_the_ignored_class_back(none):
    assert LabelOptions(ignore=none).resolve(range(5), MARS).ignore is None


def test_what_the_data_say_holds_where_nothing_else_is_said():
    assert LabelOptions().resolve(range(3), MARS) == MARS
    assert LabelOptions(colours=("#000001",) * 5).resolve(range(3), MARS).ignore == 0


@pytest.mark.parametrize("ignore", ["clouds", 5, -1])
def test_an_unknown_ignored_class_is_refused(ignore):
    with pytest.raises(BadSpec, match="expected none, a class index, 0 to 4, or one of backg"):
        LabelOptions(ignore=ignore).resolve(range(5), MARS)


def test_a_number_that_is_an_index_and_the_name_of_another_class_is_refused():
    with pytest.raises(BadSpec, match="1 is the index of '2' and the name of another class"):
        LabelOptions(unlabelled=0, ignore=1).resolve({0, 1, 2, 3})


def test_more_than_two_values_have_no_foreground():
    with pytest.raises(BadLabels, match="hold 0, 1, 2; expected two values, foreground 2"):
        LabelOptions(foreground=2).resolve({0, 1, 2})


def test_a_value_of_no_class_is_refused():
    with pytest.raises(BadLabels, match="hold 12; expected 0 to 11, or 255 for unlabelled; name"):
        LabelOptions(12).resolve(range(13))


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"foreground": 300}, "foreground 300; expected a value of masks"),
        ({"unlabelled": 3, "foreground": 3}, "cannot be both"),
        ({"names": 3, "foreground": 1}, "a foreground goes with 2 classes"),
        ({"names": 1}, "1 classes; expected 2 to 255"),
        ({"ignore": True}, "ignored class True; expected a name"),
        ({"name": 3}, "unknown key 'name'; known: names"),
        ({"values": 3}, "names, colours and values are lists"),
    ],
)
def test_a_malformed_entry_is_refused(options, words):
    with pytest.raises(BadSpec, match=f"^classes.yaml: .*{words}"):
        options_from_dict(options, "classes.yaml")


def test_a_file_of_classes_that_holds_a_list_is_refused(tmp_path):
    file = tmp_path / "classes.yaml"
    file.write_text("[sky, road]")
    with pytest.raises(BadSpec, match=r"classes.yaml is list; expected keys such as names, ignore"):
        parse_classes(str(file))


def test_classes_come_from_a_file_of_names(tmp_path):
    (tmp_path / "names.txt").write_text("\ufeffsky\nroad\n\nbig tree\n", encoding="utf-8")
    assert parse_classes(str(tmp_path / "names.txt")).names == ("sky", "road", "big tree")


def test_classes_come_from_a_file_with_values(tmp_path):
    file = tmp_path / "classes.json"
    file.write_text(json.dumps({"names": ["a", "b"], "values": [64, 192], "ignore": "a"}))
    classes = parse_classes(str(file)).resolve({64, 192, 255})
    assert (classes.values, classes.ignore, classes.unlabelled) == ((64, 192), 0, (255,))


@pytest.mark.parametrize("text", ["sky", "sky,,road", "nowhere.txt", "0"])
def test_unreadable_classes_are_refused(text):
    with pytest.raises(BadSpec):
        parse_classes(text)


def test_a_colour_table_has_names_and_colours_in_any_order(tmp_path):
    file = tmp_path / "colours.txt"
    file.write_text("# CamVid\n64 128 64\tAnimal\nBig tree, 1, 2, 3\nroad #0a0B0c\n")
    assert read_colours(file) == (
        ("Animal", "Big tree", "road"),
        ("#408040", "#010203", "#0a0B0c"),
    )
    file.write_text("road:128,64,128::\nsky:0,0,255:part:action\n")  # as CVAT writes it
    assert read_colours(file) == (("road", "sky"), ("#804080", "#0000ff"))
    file.write_text("road 1 2\n")
    with pytest.raises(BadSpec, match="line 1 holds 'road 1 2'; expected a class name and a"):
        read_colours(file)


def test_forty_classes_have_forty_colours():
    assert len(set(numbered(40, ignore=None).colours)) == 40
