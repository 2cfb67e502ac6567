"""Tables and figures of many classes show the lowest and the highest, and say where all are."""

import csv

import numpy as np
import pytest

from ensemble.pipeline.report.story import ScoredStage, class_tables, confusion_figures
from evaluation.core.classes import Classes, numbered
from evaluation.formatting import shown_classes
from evaluation.iou import iou_per_class
from evaluation.leaderboard_text import format_scores
from evaluation.scores import score, write_class_table

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


def test_a_confusion_matrix_of_many_classes_sums_the_others(counts):
    (figure,) = confusion_figures([ScoredStage("one", counts)], CLASSES)
    assert "140 others" in figure.svg
    tables = class_tables([ScoredStage("one", counts)], CLASSES)
    assert set(tables) == {"classes", "confusion-one"}
    np.testing.assert_array_equal([row[1:] for row in tables["confusion-one"][1:]], counts.sum(0))
    few = numbered(3, ignore=None)
    assert class_tables([ScoredStage("one", counts[:, :3, :3])], few) == {}
