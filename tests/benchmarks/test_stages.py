"""How much each stage gives: gains with intervals over groups and sites, and one network alone."""

import numpy as np
import pytest

from benchmarks.stages import Stage, compare_stages, count_network, draw_stages, read_stages
from evaluation.core.errors import BadSpec
from evaluation.core.run_folder import Run
from evaluation.scores import ScoredImages
from members.data.dataset import DataSet

STAGES = [Stage("one", network="a"), Stage("two", "b"), Stage("three", "c", over="one")]


def scored(right, groups):
    """Counts of images with ten pixels of each of two classes, of which so many are right."""
    counts = np.array([[[right[k], 10 - right[k]], [0, 10]] for k in range(len(right))])
    return ScoredImages(counts, tuple(map(str, range(len(right)))), groups)


def iou(right):
    wrong = 10 * len(right) - sum(right)
    return (sum(right) / (10 * len(right)) + 10 * len(right) / (10 * len(right) + wrong)) / 2


def test_gains_are_over_the_stage_before_or_the_one_that_is_named():
    groups = np.array(["A1", "A2", "A3", "B1", "B2", "C1"])
    rights = [(5, 5, 5, 5, 6, 5), (7, 7, 8, 5, 6, 6), (6, 6, 6, 6, 7, 6)]
    counted = [scored(right, groups) for right in rights]
    rows = compare_stages(STAGES, counted, ignore=None, prefix=1)
    assert [row["masked"] for row in rows] == pytest.approx([iou(right) for right in rights])
    assert rows[1]["masked_gain"] == pytest.approx(iou(rights[1]) - iou(rights[0]))
    assert rows[2]["masked_gain"] == pytest.approx(iou(rights[2]) - iou(rights[0]))
    assert rows[2]["over"] == "one"
    widths = {key: np.ptp(rows[1]["masked_gain_intervals"][key]) for key in ("groups", "sites")}
    assert widths["sites"] > widths["groups"]  # the gain is that of one site
    assert draw_stages(rows).count("<circle") == 3 + 2 * 3  # legend and dots


def test_one_network_labels_alone(trained_run):
    run = Run(trained_run)
    found = count_network(run, "one", "validation")
    data = DataSet.load(run.data("validation"))
    assert found.ids == data.ids
    assert found.counts.sum() == (data.target() != 255).sum()


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("- {name: a}", "expected candidate or network"),
        ("- {name: a, candidate: b, network: c}", "expected candidate or network"),
        ("- {name: a, candidate: b, over: c}", "'a' is over 'c', no stage before it"),
        ("- {name: a, step: b}", "expected a list of name"),
        ("3", "expected a list of name"),
    ],
)
def test_a_list_that_cannot_be_read_is_refused(tmp_path, text, words):
    path = tmp_path / "stages.yaml"
    path.write_text(text)
    with pytest.raises(BadSpec, match=words):
        read_stages(path)
