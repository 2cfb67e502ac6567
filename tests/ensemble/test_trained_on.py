"""Candidates whose members were trained on what examines them: left out, refused, never chosen."""

import json

import numpy as np
import pytest

from ensemble.cli import run_command
from ensemble.pipeline.run.experiment import Experiment
from ensemble.pipeline.run.open_run import IMPORTED
from evaluation.core.files import write_json
from evaluation.core.provenance import record
from evaluation.core.ragged import Extent
from evaluation.core.run_folder import OOF, Run
from members.data.dataset import DataSet, write_classes
from members.store import ProbabilityStore
from members.store_metadata import TrainingIds
from tests.ensemble.test_run_refusals import (
    CLASSES,
    IMAGES,
    SIZE,
    data_set,
)

VALIDATION = "validation"
FAIR, SURE = 0.7, 0.95


def add_maps(at, name, split, accuracy=FAIR, trained_on=()):
    """Write a member's maps; it declares the images of the split at these places."""
    data, rng = DataSet.load(at.data(split)), np.random.default_rng([*map(ord, name)])
    target = np.asarray(data.masks)
    pred = np.where(rng.random(target.shape) < accuracy, target, 3 - target)
    maps = 0.8 * np.eye(3, dtype=np.float32)[pred] + np.float32(0.2 / 3)
    seen = TrainingIds((frozenset(data.ids[place] for place in trained_on),))
    store = ProbabilityStore.create(
        at.probabilities(name, split),
        ids=data.ids,
        classes=CLASSES,
        extent=Extent.uniform(len(data.ids), SIZE),
        seen=seen,
    )
    store.write(slice(0, IMAGES), np.ascontiguousarray(maps.transpose(0, 3, 1, 2)))
    record(store.folder, config={IMPORTED: name}, inputs={})


@pytest.fixture
def at(tmp_path):
    """A run with the maps of one member, which saw nothing of it."""
    at = Run(tmp_path / "run")
    write_classes(at.classes, CLASSES)
    for seed, split in enumerate((OOF, VALIDATION)):
        data_set(split, seed).save(at.data(split))
        add_maps(at, "fair", split)
    write_json(at.folds, {"folds": 2, "fold": [k % 2 for k in range(IMAGES)]})
    record(at.path / "data", config={}, inputs={})
    Experiment(data="sample", folds=2).write(at.experiment)
    return at


@pytest.fixture
def leaky(at):
    """Beside it a member that was trained on two images of `validation`."""
    add_maps(at, "leaky", OOF)
    add_maps(at, "leaky", VALIDATION, SURE, trained_on=[3, 8])
    return at


@pytest.fixture
def early(at):
    """Beside it a member whose maps of `oof` are not out of fold."""
    add_maps(at, "early", OOF, SURE, trained_on=range(IMAGES))
    add_maps(at, "early", VALIDATION)
    return at


def called(capsys, at, *words, code=0):
    capsys.readouterr()
    assert run_command([*words, "--run", str(at.path)]) == code
    return capsys.readouterr()


def board(capsys, at, command, *words):
    said = called(capsys, at, command, "--json", *words)
    document = json.loads(said.out)
    return document, {row["name"] for row in document["candidates"]}, said.err


@pytest.mark.parametrize("command", ["score", "compare"])
class TestOnTheExaminedSplit:
    def test_a_candidate_trained_on_images_is_left_out_and_logged_once(
        self, leaky, capsys, command
    ):
        called(capsys, leaky, "score")
        found, names, told = board(capsys, leaky, command)
        assert names == {"fair_argmax"}
        assert found["chosen"] == "fair_argmax"
        left_out = "leaky_argmax: left out, its members were trained on 2 of the 12 images"
        assert [line for line in told.splitlines() if "leaky" in line] == [
            f"{left_out} of validation"
        ]

    def test_what_is_made_of_a_leaky_member_is_left_out_too(self, leaky, capsys, command):
        called(capsys, leaky, "fuse", "--strategy", "mean")
        called(capsys, leaky, "fuse", "--strategy", "stacking")
        chain = ["--fusion", "mean", "--chain", "suppress_background"]
        called(capsys, leaky, "postprocess", *chain)
        called(capsys, leaky, "score")
        assert board(capsys, leaky, command)[1] == {"fair_argmax"}
        assert len(board(capsys, leaky, command, "--split", OOF)[1]) == 5

    def test_where_all_were_trained_on_it_nothing_is_ranked(self, at, capsys, command):
        add_maps(at, "other", VALIDATION)
        called(capsys, at, "score")
        for name in ("fair", "other"):
            at.probabilities(name, VALIDATION).rename(at.path / f"away-{name}")
            add_maps(at, name, VALIDATION, trained_on=[0])
        said = called(capsys, at, command, code=2).err
        assert "every candidate's members were trained on images of validation; train or" in said


def test_a_leaky_candidate_given_by_name_is_refused(leaky, capsys):
    words = ["score", "--candidate", "fair", "--candidate", "leaky"]
    said = called(capsys, leaky, *words, code=2).err
    assert said.rstrip() == (
        "ens: the score of 'leaky' on validation would rely on 2 images that 'leaky' was trained"
        " on; import maps of images that it was not trained on, or take another --split"
    )
    elsewhere = board(capsys, leaky, "score", "--candidate", "leaky", "--split", OOF)
    assert elsewhere[1] == {"leaky_argmax"}


def test_what_is_left_out_of_the_leaderboard_is_not_missing_in_status(leaky, capsys):
    called(capsys, leaky, "score")
    parts = json.loads(called(capsys, leaky, "status", "--json").out)["parts"]
    scores = [p for p in parts if p["stage"] == "scores" and p["name"] == "leaky_argmax"]
    assert {part["part"] for part in scores} == {OOF, VALIDATION}
    assert "missing" not in {part["state"] for part in scores}


def test_metrics_of_a_leaky_candidate_come_with_a_warning(leaky, capsys):
    said = called(capsys, leaky, "score", "--metric", "iou", "--candidate", "leaky").err
    assert "leaky: warning: its members were trained on 2 of the 12 images of validation" in said


@pytest.mark.parametrize("command", ["score", "compare"])
def test_one_trained_on_oof_has_no_score_there_and_is_neither_chosen_nor_the_reference(
    early, capsys, command
):
    called(capsys, early, "score")
    found, names, told = board(capsys, early, command)
    assert names == {"fair_argmax", "early_argmax"}
    assert (found["chosen"], found["reference"]) == ("fair_argmax", "fair_argmax")
    assert {row["name"]: row["oof"] is None for row in found["candidates"]}["early_argmax"]
    assert [line for line in told.splitlines() if line.startswith("early_argmax:")] == [
        "early_argmax: no oof score, its members were trained on 12 of the 12 images of oof"
    ]


@pytest.mark.parametrize("strategy", ["mean", "stacking"])
def test_a_fusion_was_trained_on_what_its_members_were_trained_on(leaky, capsys, strategy):
    called(capsys, leaky, "fuse", "--strategy", strategy)
    store = ProbabilityStore(leaky.fused(strategy, VALIDATION))
    assert np.flatnonzero(store.trained_on_mask()).tolist() == [3, 8]
    assert not ProbabilityStore(leaky.fused(strategy, OOF)).trained_on_mask().any()
