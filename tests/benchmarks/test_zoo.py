"""The rows of the reports are complete, and the script that trains them resumes."""

from collections import Counter

import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner

from benchmarks import zoo, zoo_tables
from ensemble.api.opened_run import OpenedRun
from ensemble.pipeline.run.experiment import read_experiment
from evaluation.core.classes import MARS
from evaluation.core.run_folder import Run
from members.data.dataset import DataSet
from members.data.sample import draw_sample

HEAD = "table,row,reported,reported_iou,network,chain,budget,against\n"
ONE = "first,one,.41,,one,,1,\nfirst,suppressed,.61,,one,suppress_background,1,one\n"
TWO = "second,two,.50,,two,,1,one\n"


@pytest.fixture(scope="module")
def rows():
    return zoo.read_rows(zoo.HERE / "reports.csv")


@pytest.fixture(scope="module")
def networks():
    return read_experiment(zoo.HERE / "reports.yaml")


def test_every_recipe_of_the_reports_can_be_built(networks):
    assert len(networks.expanded(MARS)) >= len(networks.members)


def test_rows_have_unique_names_and_every_network_has_a_row(rows, networks):
    assert Counter((row["table"], row["row"]) for row in rows).most_common(1)[0][1] == 1
    assert {row["network"] for row in rows} == set(networks.members)


def test_rows_that_share_a_network_share_its_budget(rows):
    assert len({(row["network"], row["budget"]) for row in rows}) == len(
        {row["network"] for row in rows}
    )


def test_every_row_but_the_plain_ones_is_compared_with_another_network(rows):
    assert {row["against"] for row in rows if row["against"]} <= {row["network"] for row in rows}
    assert {row["network"] for row in rows if not row["against"]} == {"unet", "unet_masked"}


def test_reported_scores_are_in_the_range_of_the_reports(rows):
    reported = [row["reported"] for row in rows if row["reported"]]
    assert len(reported) == 21
    assert all(0.4 < float(score) < 0.71 for score in reported)


@pytest.fixture
def train(tmp_path):
    sample = draw_sample(images=60, test=2, validation=30, size=(16, 24)).save(tmp_path)

    def run_zoo(*members, lines, minutes=0.001, options=()):
        recipes = "".join(f"  {m}: {{architecture: 'unet(width=2, depth=1)'}}\n" for m in members)
        head = f"data: {sample[0]}\nvalidation: {sample[1]}\nfolds: 3\nmembers:\n"
        (tmp_path / "e.yaml").write_text(head + recipes)
        (tmp_path / "r.csv").write_text(HEAD + lines)
        paths = {"--run": "run", "--experiment": "e.yaml", "--rows": "r.csv", "--out": "zoo.csv"}
        arguments = [word for k, v in paths.items() for word in (k, str(tmp_path / v))]
        arguments += ["--device", "cpu", "--minutes", str(minutes), *options]
        return CliRunner().invoke(zoo.main, arguments)

    return run_zoo


@pytest.mark.slow
def test_a_stopped_training_resumes_with_what_is_missing(train, tmp_path, monkeypatch):
    assert train("one", lines=ONE).exit_code == 0
    first = pd.read_csv(tmp_path / "zoo.csv")
    assert list(first["row"]) == ["one", "suppressed"]
    assert (first["low"] <= first["masked"]).all()
    weights = tmp_path / "run" / "members" / "one" / "fold-0" / "weights.safetensors"
    before = weights.stat().st_mtime_ns

    # The architecture is timed once; timed again it would get other epochs.
    monkeypatch.setattr(zoo, "measure_network", lambda *_: pytest.fail("timed again"))
    assert train("one", "two", lines=TWO + ONE).exit_code == 0
    second = pd.read_csv(tmp_path / "zoo.csv")
    assert list(second["row"]) == ["two", "one", "suppressed"]
    pd.testing.assert_frame_equal(second[1:].reset_index(drop=True), first, check_dtype=False)
    assert weights.stat().st_mtime_ns == before
    assert second["epochs"].nunique() == 1

    refused = train("one", "two", lines=TWO + ONE, minutes=3)
    assert refused.exit_code == 1
    assert "was started with minutes 0.001, not 3.0; use that, or another --run" in refused.output

    shown = CliRunner().invoke(zoo_tables.main, ["--results", str(tmp_path / "zoo.csv")])
    lines = shown.output.splitlines()
    scores, steps = lines[: lines.index("")], lines[lines.index("") + 1 : -2]
    assert lines[-1].startswith("Rank correlation of training with masked, 2 networks: ")
    for table in (scores, steps):
        assert len({line.count("|") for line in table}) == 1
    assert len(scores) == 2 + 3
    assert scores[-1].startswith("| first | suppressed | .61 | .")
    assert scores[-1].endswith("| `one`, `suppress_background` |")
    assert [line.split(" | ")[1:4] for line in steps[2:]] == [
        ["one", "two", ""],  # of another report, with other images
        ["one", "suppressed", "+.200"],
    ]


@pytest.mark.slow
def test_a_gain_is_the_difference_of_the_scores_and_its_parts_add_up(train, tmp_path):
    assert train("one", "two", lines=ONE + TWO, minutes=0.005).exit_code == 0
    one, suppressed, two = pd.read_csv(tmp_path / "zoo.csv").to_dict("records")
    assert pd.isna(one["gain"])
    for row in (suppressed, two):
        assert row["gain"] == pytest.approx(row["masked"] - one["masked"], abs=2e-4)
        assert row["keras_gain"] == pytest.approx(row["keras"] - one["keras"], abs=2e-4)
        parts = row["keras_pixels"] + row["keras_denominator"]
        assert row["keras_gain"] == pytest.approx(parts, abs=2e-4)
        assert row["gain_low"] <= row["gain"] <= row["gain_high"]


@pytest.mark.slow
def test_a_recipe_that_changed_has_no_score_until_it_is_trained(train, tmp_path, monkeypatch):
    assert train("one", lines=ONE).exit_code == 0
    monkeypatch.setattr(zoo, "run_jobs", lambda *_, **__: iter(()))
    assert train("one", "two", lines=ONE + TWO).exit_code == 0
    assert list(pd.read_csv(tmp_path / "zoo.csv")["network"]) == ["one", "one"]
    before = (tmp_path / "zoo.csv").read_bytes()
    (tmp_path / "run" / "members" / "one" / "fold-0" / "weights.safetensors").unlink()
    assert train("one", "two", lines=ONE + TWO).exit_code == 0
    assert (tmp_path / "zoo.csv").read_bytes() == before  # nothing new is nothing written


def test_a_network_without_a_row_is_refused(train):
    refused = train("one", "two", lines=ONE)
    assert refused.exit_code == 1
    assert "network 'two' is in only one of" in refused.output


@pytest.mark.slow
def test_repeated_trainings_tell_recipes_apart(train, tmp_path):
    lines = ONE + TWO + "second,three,,,three,,1,\n"
    options = ["--repeats", "2", "--only", "one,two"]
    done = train("one", "two", "three", lines=lines, minutes=0.002, options=options)
    assert done.exit_code == 0, done.output
    one, suppressed, two = pd.read_csv(tmp_path / "zoo.csv").to_dict("records")
    assert sorted(path.name for path in (tmp_path / "run" / "members").iterdir()) == [
        *("one-1", "one-2"),
        *("two-1", "two-2"),
    ]
    assert pd.isna(one["recipe_gain"])
    scores = _masked(tmp_path / "run", "one-1", "one-2", "two-1", "two-2")
    expected = (scores[2] + scores[3] - scores[0] - scores[1]) / 2
    assert two["trainings"] == suppressed["trainings"] == 2
    assert two["recipe_gain"] == pytest.approx(expected, abs=1e-4)
    assert two["gain"] == pytest.approx(scores[2] - scores[0], abs=2e-4)
    assert two["recipe_low"] < two["recipe_gain"] < two["recipe_high"]
    shown = CliRunner().invoke(zoo_tables.main, ["--results", str(tmp_path / "zoo.csv")])
    assert " | 2 | " in shown.output.splitlines()[-3]

    refused = train("one", lines=ONE, options=["--only", "four"])
    assert "--only 'four'; known are one" in refused.output


def _masked(path, *members):
    """Return the masked mIoU of members on validation, from their maps."""
    target = np.asarray(DataSet.load(Run(path).data("validation")).target())
    run = OpenedRun(path)
    scores = []
    for name in members:
        pred = run.maps(name, "validation").argmax(axis=1)
        scored = (target != MARS.ignore) & (target < len(MARS))
        ious = []
        for label in range(1, len(MARS)):
            hit = ((pred == label) & (target == label) & scored).sum()
            union = (((pred == label) | (target == label)) & scored).sum()
            if union:
                ious.append(hit / union)
        scores.append(np.mean(ious))
    return scores
