"""A chain that learns, in a run and on files: cross-fitted by fold, stale when it should be."""

import json
from dataclasses import replace

import numpy as np
import pytest

from ensemble.cli import run_command
from ensemble.pipeline.run.open_run import fold_indices
from ensemble.pipeline.workflow.status import status
from evaluation.core.run_folder import Run
from members.data.dataset import DataSet
from members.data.sample import draw_sample
from members.store_metadata import StoreMetadata, TrainingIds

TINY = "unet(width=2, depth=1)"
FUSION, CHAIN = "one", "class_bias"
NAME = "one_class_bias"


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    folder = tmp_path_factory.mktemp("biased")
    data, validation = draw_sample(images=80, test=3, validation=20, size=(16, 24)).save(folder)
    arguments = f"train-members --data {data} --validation {validation} --run {folder / 'run'}"
    options = [*arguments.split(), "--folds", "2", "--workers", "1", "--epochs", "1"]
    assert run_command([*options, "--member", f"one={TINY}"]) == 0
    return Run(folder / "run")


def called(capsys, *arguments, code=0):
    """Run a command and return what it wrote."""
    capsys.readouterr()
    assert run_command([str(argument) for argument in arguments]) == code
    return capsys.readouterr()


def made(capsys, at, *, chain=CHAIN, **expected):
    arguments = ["postprocess", "--run", at.path, "--fusion", FUSION, "--chain", chain, "--json"]
    return json.loads(called(capsys, *arguments, **expected).out)


def labels_of(at, split):
    return np.load(at.labels(NAME, split) / "labels.npy")


def states(at):
    return {
        part.part: part.state for part in status(at) if part.name == NAME and part.stage == "labels"
    }


def with_other_target(at, fold):
    """Give the images of a fold another target; return what puts the old one back."""
    file = at.data("oof") / "target.npy"
    before = np.load(file)
    changed = before.copy()
    own = fold_indices(at) == fold
    changed[own] = np.where(before[own] == 0, 0, before[own].max() + 1 - before[own])
    np.save(file, changed)
    return lambda: np.save(file, before)


class TestARun:
    def test_says_what_was_learned_and_labels_every_split(self, trained, capsys):
        document = made(capsys, trained)
        fitted = document["fitted"]
        assert fitted["chain"].startswith("class_bias(bias=['-inf', 0.0, ")
        assert len(fitted["without_fold"]) == 2
        assert json.loads((trained.path / "labels" / NAME / "fitted.json").read_text()) == fitted
        given = json.loads(
            called(
                capsys, "postprocess", "--run", trained.path, "--fusion", FUSION, "--json",
                "--name", "given", "--chain", fitted["chain"],
            ).out
        )  # fmt: skip
        assert "fitted" not in given
        np.testing.assert_array_equal(
            labels_of(trained, "validation"),
            np.load(trained.labels("given", "validation") / "labels.npy"),
        )
        text = called(
            capsys, "postprocess", "--run", trained.path, "--fusion", FUSION, "--chain", CHAIN
        ).out
        assert f"fitted: {fitted['chain']}" in text

    def test_the_target_of_a_fold_has_no_say_in_its_own_labels(self, trained, capsys):
        first = made(capsys, trained)["fitted"]
        before = {split: labels_of(trained, split) for split in ("oof", "validation")}
        assert set(states(trained).values()) == {"current"}
        restore = with_other_target(trained, fold=0)
        try:
            assert set(states(trained).values()) == {"stale"}
            second = made(capsys, trained)["fitted"]
        finally:
            restore()
        own = fold_indices(trained) == 0
        after = labels_of(trained, "oof")
        assert first["without_fold"][0] == second["without_fold"][0]
        assert first["without_fold"][1] != second["without_fold"][1]
        np.testing.assert_array_equal(after[own], before["oof"][own])
        assert (after[~own] != before["oof"][~own]).any()
        assert first["chain"] != second["chain"]

    def test_is_scored_like_any_candidate(self, trained, capsys):
        made(capsys, trained)
        board = json.loads(called(capsys, "score", "--run", trained.path, "--json").out)
        rows = {row["name"]: row for row in board["candidates"]}
        assert {NAME, "one_argmax"} <= set(rows)

    def test_another_chain_by_the_same_name_forgets_what_was_learned(self, trained, capsys):
        where = ["postprocess", "--run", trained.path, "--fusion", FUSION, "--name", "same"]
        called(capsys, *where, "--chain", CHAIN)
        kept = trained.path / "labels" / "same" / "fitted.json"
        assert kept.is_file()
        called(capsys, *where, "--chain", "suppress_background")
        assert not kept.exists()

    def test_maps_of_images_that_were_trained_on_are_refused(self, trained, capsys):
        data = DataSet.load(trained.data("oof"))
        saw = frozenset(data.ids[:5])
        folder = trained.probabilities(FUSION, "oof")
        before = StoreMetadata.read(folder)
        replace(before, seen=TrainingIds((saw,))).write(folder)
        try:
            arguments = ["--fusion", FUSION, "--chain", "blur|class_bias", "--name", "leaky"]
            said = called(capsys, "postprocess", "--run", trained.path, *arguments, code=2).err
        finally:
            before.write(folder)
        assert "ens: chain blur|class_bias would rely on 5 images that 'one' was" in said
        assert len(said.splitlines()) == 1
        assert "leaky" not in trained.candidates()

    def test_maps_without_out_of_fold_ones_are_refused(self, trained, capsys):
        oof = trained.probabilities(FUSION, "oof")
        aside = oof.with_name("aside")
        oof.rename(aside)
        try:
            arguments = ["--fusion", FUSION, "--chain", CHAIN, "--name", "lacking"]
            said = called(capsys, "postprocess", "--run", trained.path, *arguments, code=2).err
        finally:
            aside.rename(oof)
        assert said == "ens: chain class_bias learns from out-of-fold maps; 'one' has none\n"


@pytest.fixture
def files(tmp_path):
    """Maps that name class 2 too seldom, their target, and images."""
    rng = np.random.default_rng(0)
    right = np.moveaxis(rng.dirichlet([0.5, 1, 0.4], (30, 8, 10)), -1, 1)
    target = (right.cumsum(axis=1) < rng.random((30, 1, 8, 10))).sum(axis=1).clip(max=2)
    maps = right * np.array([1, 2, 0.5])[:, None, None]
    maps /= maps.sum(axis=1, keepdims=True)
    np.save(tmp_path / "maps.npy", maps.astype(np.float32))
    np.save(tmp_path / "four.npy", np.full((30, 4, 8, 10), 0.25, np.float32))
    np.save(tmp_path / "target.npy", target.astype(np.uint8))
    np.save(tmp_path / "few.npy", target[:9].astype(np.uint8))
    np.save(tmp_path / "images.npy", rng.integers(0, 256, (30, 8, 10), dtype=np.uint8))
    return tmp_path


class TestFiles:
    def test_a_chain_learns_from_held_out_files(self, files, capsys, monkeypatch):
        monkeypatch.chdir(files)
        where = ["postprocess", "--ignore", "0", "--maps", "maps.npy", "--out"]
        fit = ["--fit-maps", "maps.npy", "--fit-target", "target.npy"]
        said = called(capsys, *where, "learned.npy", "--chain", CHAIN, *fit, "--json").out
        fitted = json.loads(said)["fitted"]
        assert fitted.startswith("class_bias(bias=['-inf', 0.0, ")
        text = called(capsys, *where, "learned.npy", "--chain", CHAIN, *fit).out
        assert f"30 label maps by {fitted}" in text
        called(capsys, *where, "given.npy", "--chain", fitted)
        np.testing.assert_array_equal(np.load("learned.npy"), np.load("given.npy"))
        called(capsys, *where, "plain.npy", "--chain", "suppress_background")
        assert (np.load("learned.npy") == 2).sum() > (np.load("plain.npy") == 2).sum()

    @pytest.mark.parametrize(
        ("chain", "options", "words"),
        [
            (CHAIN, [], "chain 'class_bias' learns; give it held-out --fit-maps and --fit-target"),
            (CHAIN, ["--fit-maps", "maps.npy"], "learns; give it held-out"),
            ("blur", ["--fit-maps", "maps.npy"], "chain 'blur' has nothing to learn; leave --fit"),
            (
                CHAIN,
                ["--fit-maps", "four.npy", "--fit-target", "target.npy"],
                "four.npy has 4 classes; expected 3",
            ),
            (
                CHAIN,
                ["--fit-maps", "maps.npy", "--fit-target", "few.npy"],
                "expected integers, 30 images of 8x10 pixels as in maps.npy",
            ),
            (
                "crf|class_bias",
                ["--fit-maps", "maps.npy", "--fit-target", "target.npy", "--images", "images.npy"],
                "step 'crf' needs images; give them with --fit-images",
            ),
        ],
    )
    def test_what_it_cannot_learn_from_is_refused(
        self, files, capsys, monkeypatch, chain, options, words
    ):
        monkeypatch.chdir(files)
        arguments = ["postprocess", "--maps", "maps.npy", "--out", "o.npy", "--chain", chain]
        said = called(capsys, *arguments, *options, code=2).err
        assert words in said
        assert len(said.splitlines()) == 1
        assert not (files / "o.npy").exists()
