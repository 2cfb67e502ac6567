"""Runs that lack something, or were changed by hand: every command says what, and what to do."""

import shutil

import numpy as np
import pytest

from ensemble.cli import run_command
from ensemble.pipeline.run.experiment import Experiment
from ensemble.pipeline.run.open_run import IMPORTED, RunMembers
from ensemble.pipeline.workflow.preflight import check_fusion, data_warnings
from evaluation.core.classes import Classes
from evaluation.core.errors import BadRun, LeakageError
from evaluation.core.files import write_json
from evaluation.core.provenance import record
from evaluation.core.ragged import Extent
from evaluation.core.run_folder import OOF, Run
from members.data.dataset import DataSet, write_classes
from members.store import ProbabilityStore
from members.store_metadata import TrainingIds

CLASSES = Classes(("background", "soil", "rock"), 0)
SIZE, IMAGES = (8, 16), 12
SEEN = TrainingIds((frozenset(),))
FUSIONS = {"mean": "mean", "weighted": "weighted_mean"}


def data_set(prefix, seed):
    rng = np.random.default_rng(seed)
    images = rng.integers(0, 256, (IMAGES, 1, *SIZE), dtype=np.uint8)
    target = rng.integers(1, 3, (IMAGES, *SIZE), dtype=np.uint8)
    ids = tuple(f"{prefix}{k:02}" for k in range(IMAGES))
    return DataSet(images, target, ids, None, CLASSES)


def add_maps(at, name, split, seen=SEEN):
    data = DataSet.load(at.data(split))
    maps = 0.8 * np.eye(3, dtype=np.float32)[np.asarray(data.masks)] + np.float32(0.2 / 3)
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
    """A run of two foreign members; one has maps of `oof`, both of `validation`."""
    at = Run(tmp_path / "run")
    write_classes(at.classes, CLASSES)
    for seed, split in enumerate((OOF, "validation")):
        data_set(split, seed).save(at.data(split))
        add_maps(at, "one", split)
    add_maps(at, "two", "validation")
    write_json(at.folds, {"folds": 2, "fold": [k % 2 for k in range(IMAGES)]})
    record(at.path / "data", config={}, inputs={})
    Experiment(data="sample", folds=2, fusions=FUSIONS).write(at.experiment)
    return at


def refused(capsys, at, words):
    capsys.readouterr()
    assert run_command([*words.split(), "--run", str(at.path)]) == 2
    said = capsys.readouterr().err
    assert len(said.splitlines()) == 1, said
    return said


@pytest.mark.parametrize(
    "words",
    [
        "fuse --strategy mean --members one",
        "postprocess --fusion one --chain suppress_background",
        "postprocess --fusion one --chain class_bias",
        "tune-postproc --fusion one --trials 1",
        (
            "tune-postproc --fusion one --grid remove_small.min_area_px=1,2"
            " --grid mode_filter.size=3,5 --out grid.png"
        ),
    ],
)
def test_maps_of_other_images_are_refused(at, capsys, words, monkeypatch):
    data_set("other", 0).save(at.data(OOF))
    monkeypatch.chdir(at.path.parent)
    assert f"'one': maps were made for other images than split '{OOF}'" in refused(
        capsys, at, words
    )
    assert not at.fused("mean", OOF).exists()
    assert not list(at.path.glob(f"labels/*/{OOF}"))


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (
            "fuse --strategy stacking --members two",
            "stacking learns from out-of-fold maps; a member has",
        ),
        ("postprocess --fusion two --chain class_bias", "'two' has none"),
        ("tune-postproc --fusion two --trials 1", "'two' has no maps of split 'oof'"),
        ("overlay --candidate one --split nowhere --out o.png", "no split 'nowhere'"),
        ("submit --candidate one --split nowhere --out o.csv", "no split 'nowhere'"),
        ("score --split nowhere", "no split 'nowhere'"),
        ("score --candidate nobody", "nobody"),
        ("predict --data {run}/../new.npy --split new", "run `ens train-members` first"),
    ],
)
def test_what_is_missing_is_named_with_what_to_do(at, capsys, words, told, monkeypatch):
    monkeypatch.chdir(at.path.parent)
    for name, rows in (("new", SIZE[0]), ("large", SIZE[0] + 1)):
        np.save(f"{name}.npy", np.zeros((2, rows, SIZE[1]), np.uint8))
    before = sorted(at.path.rglob("*.csv"))
    assert told in refused(capsys, at, words.format(run=at.path))
    assert not list(at.path.parent.glob("o.*"))
    assert sorted(at.path.rglob("*.csv")) == before


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ("fuse --strategy mean --seed 1", "--seed goes with --maps; a run has its own"),
        ("fuse --strategy mean --ignore 1", "--ignore goes with --maps; a run has its own"),
        (
            "postprocess --fusion one --chain suppress_background --ignore 1",
            "--ignore goes with --maps; a run has its own",
        ),
        ("score --per image", "--per goes with --metric"),
        ("score --ignore 1", "--ignore goes with --target; a run has its own"),
        ("score --metric iou --classes 3", "--classes goes with --target; a run has its own"),
        ("audit one two --ignore 1", "--ignore goes with --target; a run has its own"),
        ("audit one two --classes 3", "--classes goes with --target; a run has its own"),
    ],
)
def test_options_that_a_run_would_ignore_are_refused(at, capsys, words, told):
    before = sorted(at.path.rglob("*"))
    assert told in refused(capsys, at, words)
    assert sorted(at.path.rglob("*")) == before


@pytest.mark.parametrize(
    "words",
    [
        "train-members",
        "fuse --strategy mean",
        "search space.yaml",
        "search-loss",
        "tune-postproc --fusion one",
    ],
)
def test_a_seed_below_zero_is_refused(at, capsys, words):
    said = refused(capsys, at, f"{words} --seed -1")
    assert "'--seed': -1 is not in the range 0<=x<=" in said


def test_a_candidate_without_maps_of_the_split_is_left_out_of_the_leaderboard(at, capsys):
    words = ["score", "--candidate", "two", "--split", OOF, "--run", str(at.path)]
    assert run_command(words) == 2
    *_, left_out, said = capsys.readouterr().err.splitlines()
    assert left_out == "two_argmax: left out, 'two' has no maps of oof"
    assert said.endswith("has maps of 'oof'; train or predict first")


def test_an_empty_run_has_nothing_to_fuse(at, capsys):
    for split in (OOF, "validation"):
        at.probabilities("one", split).rename(at.path / f"away-{split}")
    at.probabilities("two", "validation").rename(at.path / "away-two")
    said = refused(capsys, at, "fuse --strategy mean")
    assert "has maps; run `ens train-members` first" in said


def test_members_without_a_common_split_are_not_fused(at, capsys):
    at.probabilities("one", "validation").rename(at.path / "away")
    said = refused(capsys, at, "fuse --strategy mean --members one,two")
    assert "one, two have no split in common; run `ens predict`" in said


def test_a_fusion_of_itself_is_refused(at, capsys):
    said = refused(capsys, at, "fuse --strategy mean --name f --members one,f")
    assert "fusion 'f' would be made of itself" in said
    by_way = {"a": {"strategy": "mean", "members": ["one", "f"]}}
    Experiment(data="sample", folds=2, fusions=by_way).write(at.experiment)
    said = refused(capsys, at, "fuse --strategy mean --name f --members one,a")
    assert "fusion 'f' would be made of itself" in said


class TestHintsForMissingMaps:
    def test_imported_maps_are_imported_again(self, at):
        with pytest.raises(
            BadRun, match=r"run `ens import --run \S+ --name two --split oof PATHS`"
        ):
            RunMembers.of(at).open("two", OOF)

    def test_a_network_is_trained(self, at):
        Experiment(data="sample", members={"net": {"architecture": "unet"}}).write(at.experiment)
        with pytest.raises(BadRun, match=r"run `ens train-members --run \S+ --only net`"):
            RunMembers.of(at).open("net", OOF)

    @pytest.mark.parametrize(
        ("member", "expected"),
        [
            ("one", r"run `ens fuse --run \S+ --name mean` again"),
            ("two", r"its member 'two' has none: run `ens import --run \S+ --name two"),
        ],
    )
    def test_a_fusion_is_fused_again_or_the_member_that_lacks_maps_is_named(
        self, at, member, expected
    ):
        words = ["fuse", "--strategy", "mean", "--members", member, "--run", str(at.path)]
        assert run_command(words) == 0
        shutil.rmtree(at.fused("mean", OOF), ignore_errors=True)
        with pytest.raises(BadRun, match=f"'mean' has no maps of split 'oof'; {expected}"):
            RunMembers.of(at).open("mean", OOF)

    def test_for_an_unknown_name_the_known_ones_are_listed(self, at):
        with pytest.raises(BadRun, match="no member or fusion 'three'; known: one, two"):
            RunMembers.of(at).open("three", OOF)


class TestAPlanOfAFusion:
    """What is refused before hours of training, not after."""

    @pytest.fixture
    def check(self, at):
        return lambda strategy: check_fusion(
            RunMembers.of(at), Experiment(data="sample", fusions={"f": strategy}), "f"
        )

    def test_tells_what_learns_from_what_does_not(self, at, check):
        assert not check("mean")
        add_maps(at, "two", OOF)
        assert check("stacking")

    def test_refuses_one_that_learns_from_a_member_without_out_of_fold_maps(self, check):
        with pytest.raises(BadRun, match=r"'two' has none; import them by --split oof, or name"):
            check("stacking")

    def test_refuses_one_that_learns_from_images_a_member_was_trained_on(self, at, check):
        ids = DataSet.load(at.data(OOF)).ids
        add_maps(at, "two", OOF, seen=TrainingIds((frozenset(ids[:3]),)))
        with pytest.raises(
            LeakageError, match="fusion 'f' would rely on 3 images that 'two' was trained on"
        ):
            check("stacking")


def test_a_rare_class_and_an_absent_one_are_warned_of(at):
    data = DataSet.load(at.data(OOF))
    masks = np.ones_like(np.asarray(data.masks))
    masks[0, 0, 0] = 2
    for split, target in ((OOF, masks), ("validation", np.ones_like(masks))):
        DataSet(data.images, target, data.ids, None, CLASSES).save(at.data(split))
    said = data_warnings(at)
    assert f"oof: almost no pixels of rock ({1 / masks.size:.2%})" in said
    assert "validation: no pixel of rock" in said


def test_a_candidate_of_a_removed_fusion_is_left_out_of_the_leaderboard(at, capsys):
    where = ["--run", str(at.path)]
    assert run_command(["fuse", "--strategy", "mean", "--members", "one", *where]) == 0
    assert (
        run_command(["postprocess", "--fusion", "mean", "--chain", "suppress_background", *where])
        == 0
    )
    Experiment(data="sample", folds=2).write(at.experiment)
    capsys.readouterr()
    assert run_command(["score", *where]) == 0
    said = capsys.readouterr()
    left_out = "mean_suppress_background: left out, the experiment no longer names what it was made"
    assert left_out in said.err
    assert "mean_suppress_background" not in said.out


def test_the_best_on_the_images_it_was_selected_by_is_called_optimistic(at, capsys):
    for command in ("score", "compare"):
        capsys.readouterr()
        assert run_command([command, "--split", OOF, "--run", str(at.path)]) == 0
    said = capsys.readouterr()
    assert "examined on the same images, so its score is optimistic" in said.out
    then = f"ens predict --run {at.path} --data MORE.npz --split test"
    assert then in said.out + said.err
