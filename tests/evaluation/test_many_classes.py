"""Tables and figures of many classes show the lowest and the highest, and say where all are."""

import csv

import numpy as np
import pytest

from ensemble.pipeline.report.classes import confusion_figures
from ensemble.pipeline.report.story import ScoredStage
from evaluation.core.classes import Classes, numbered
from evaluation.formatting import shown_classes
from evaluation.iou import iou_per_class
from evaluation.leaderboard_text import format_scores
from evaluation.scores import ScoredImages, score, write_class_table

CLASSES = Classes(tuple(f"class{index:03}" for index in range(150)))


@pytest.fixture(scope="module")
def counts():
    """Confusion counts of three images in which the class `k` is right with probability k/150."""
    counts = np.zeros((3, 150, 150), np.int64)
    labels = np.arange(150)
    counts[:, labels, labels] = 10 * labels
    counts[:, labels, (labels + 1) % 150] = 10 * (150 - labels)
    return counts


def test_missing_values_are_not_shown_among_many():
    values = [None, float("nan"), *np.linspace(0, 1, 40).tolist()]
    assert shown_classes(values) == [2, 3, 4, 5, 6, 37, 38, 39, 40, 41]
    assert shown_classes(values[:20]) == list(range(20))


def test_scores_of_many_classes_fit_a_line_and_the_file_has_all(counts, tmp_path):
    document = score(counts, ["masked", "keras"], CLASSES)
    lines = format_scores(document).splitlines()
    assert max(map(len, lines)) < 130
    assert "Of 150 classes the 5 lowest and the 5 highest by IoU under masked" in lines[-2]
    write_class_table(tmp_path / "all.csv", document)
    head, mean, *rows = list(csv.reader((tmp_path / "all.csv").read_text().splitlines()))
    assert head == ["class", "masked", "keras"]
    assert float(mean[1]) == pytest.approx(document["protocols"]["masked"]["miou"])
    expected = iou_per_class(counts.sum(axis=0), None)
    assert [row[0] for row in rows] == list(CLASSES.names)
    np.testing.assert_allclose([float(row[1]) for row in rows], expected)


def test_a_matrix_of_many_classes_shows_those_confused_most_and_its_numbers_are_of_all(counts):
    images = ScoredImages(counts, ("a", "b", "c"), np.arange(3))
    (figure,) = confusion_figures([ScoredStage("one", images)], CLASSES)
    assert figure.title == "class000 is most often taken for class001 (100%)"
    assert "class000" in figure.drawing.svg
    assert "class149" not in figure.drawing.svg
    assert len(figure.drawing.data) == 13
    np.testing.assert_array_equal([row[1:] for row in figure.table[1:]], counts.sum(axis=0))


def test_the_matrix_leaves_out_the_row_of_the_ignored_class_only():
    classes = numbered(3, ignore=0)
    counts = np.array([[[0, 0, 90], [2, 6, 2], [0, 5, 5]]])
    stages = [
        ScoredStage(name, ScoredImages(table, ("a",), np.arange(1)))
        for name, table in (("one", counts), ("two", counts + np.diag([0, 0, 5])))
    ]
    confusion, change = confusion_figures(stages, classes)
    assert [row[0] for row in confusion.drawing.data[1:]] == ["1", "2"]
    assert confusion.drawing.data[0][1:] == ["0", "1", "2"]
    assert confusion.title == "2 is most often taken for 1 (33%)"
    assert change.title == "No class loses pixels to another"
