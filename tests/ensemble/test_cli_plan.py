"""`ens plan`: every reason is told before a long run, and a good one is told what it takes."""

import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
import yaml

from ensemble.cli import run_command
from ensemble.pipeline.analysis.timing import chain_seconds, disk_seconds, measure_network
from ensemble.pipeline.candidates import leakage_warnings as leakage
from ensemble.pipeline.candidates.leakage_warnings import (
    OofGap,
    cross_fold_duplicates,
    leakage_warnings,
    oof_gaps,
)
from ensemble.pipeline.data.prepare import prepare, read_folds
from ensemble.pipeline.run.experiment import Experiment, read_experiment
from ensemble.pipeline.run.open_run import RunMembers
from ensemble.pipeline.workflow.plan import plan_run
from evaluation.core.classes import MARS, numbered
from evaluation.core.ragged import stack_images
from evaluation.core.run_folder import Run
from members.data.dataset import DataSet
from members.data.sample import draw_sample
from members.recipe import Member, Recipe
from postproc.chain import parse_chain

TINY = "unet(width=2, depth=1)"
GOOD = {
    "folds": 2,
    "defaults": {"epochs": 1},
    "members": {"net": {"architecture": TINY}, "five": {"architecture": f"specialists({TINY})"}},
    "fusions": {"mean": "mean", "stacked": "stacking(l2=0.1)"},
    "chains": {"plain": "", "dark": "suppress_background|mode_filter(size=3)"},
}


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("plan")
    return draw_sample(images=72, test=10, validation=24, size=(48, 64)).save(folder)


def asked(folder, files, **changes):
    """Write an experiment file."""
    paths = {"data": str(files[0]), "validation": str(files[1])}
    file = folder / "experiment.yaml"
    file.write_text(yaml.safe_dump({**paths, **GOOD, **changes}, sort_keys=False))
    return file


def planned(capsys, *arguments, code):
    capsys.readouterr()
    assert run_command(["plan", *map(str, arguments), "--workers", "1", "--json"]) == code
    said = capsys.readouterr()
    return json.loads(said.out), said.err.splitlines()


def weight(folder):
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())


@pytest.fixture(scope="module")
def foretold(data, tmp_path_factory):
    """A forecast, then the run."""
    folder = tmp_path_factory.mktemp("good")
    members = {"net": {"architecture": TINY}, "other": {"architecture": TINY, "loss": "dice"}}
    there, file = Run(folder / "run"), asked(folder, data, members=members)
    forecast = plan_run(there, read_experiment(file), device="auto", workers=1)
    assert not there.path.exists()
    assert run_command(["run", str(file), "--run", str(there.path), "--workers", "1"]) == 0
    return forecast, there


class TestAGoodRun:
    @pytest.mark.slow
    def test_writes_what_was_planned(self, foretold):
        forecast, there = foretold
        kinds = {step.step for step in forecast.stages}
        assert kinds == {"data", "train", "predict", "fuse", "postprocess"}
        assert all(step.missing == step.parts for step in forecast.stages)
        foretold_bytes = forecast.bytes_to_write
        assert weight(there.path) == pytest.approx(foretold_bytes, rel=0.1)
        assert 0 < forecast.seconds < 600
        assert 0 < forecast.memory_bytes < 4e9

    @pytest.mark.slow
    def test_has_nothing_to_do_once_done(self, foretold, capsys):
        document, said = planned(capsys, "--run", foretold[1].path, code=0)
        assert said == []
        assert {step["missing"] for step in document["steps"]} == {0}
        assert document["bytes_to_write"] == document["seconds"] == 0

    @pytest.mark.slow
    def test_has_no_leakage_warning(self, foretold):
        run_members = RunMembers.of(foretold[1])
        assert len(oof_gaps(run_members, ["net", "other"])) == 2
        assert leakage_warnings(run_members, ["net", "other"]) == []

    @pytest.mark.slow
    def test_a_member_trained_here_is_never_said_to_leak(self, foretold, monkeypatch):
        run_members = RunMembers.of(foretold[1])
        gaps = [OofGap(name, 0.3, 0.01, 0.3, 0.01) for name in ("net", "other")]
        monkeypatch.setattr(f"{oof_gaps.__module__}.oof_gaps", lambda *_: gaps)
        assert leakage_warnings(run_members, ["net", "other"]) == []
        imported = replace(run_members, imported=("net",))
        [warning] = leakage_warnings(imported, ["net", "other"])
        assert warning.startswith("'net' is right on oof more often than on validation by +0.300")

    def test_is_formatted_in_lines(self, data, tmp_path, capsys):
        file = asked(tmp_path, data, members={"net": {"architecture": TINY}}, chains={})
        arguments = ["plan", str(file), "--run", str(tmp_path / "run")]
        assert run_command(arguments) == 0
        lines = capsys.readouterr().out.splitlines()
        assert any(line.startswith("train       net") for line in lines)
        assert any(line.startswith("disk: about") for line in lines)
        assert lines[-1] == f"next: ens run {file} --run {tmp_path / 'run'}"


class TestARunThatWouldFail:
    @pytest.mark.parametrize(
        ("changes", "words"),
        [
            ({"data": "/nowhere.npz"}, ["/nowhere.npz is missing"]),
            ({"members": {}}, ["there is no member"]),
            ({"members": {"x": {"architecture": "unett"}}}, ["unknown architecture 'unett'"]),
            ({"members": {"x": {"epoch": 1}}}, ["member 'x' has no key 'epoch'"]),
            (
                {"members": {"x": {"architecture": "unet(depth=7)"}}},
                ["needs at least 128 x 128 pixels"],
            ),
            ({"fusions": {"m": "meen"}}, ["unknown fusion strategy 'meen'"]),
            ({"fusions": {"net": "mean"}}, ["fusion 'net' has the name of a member"]),
            (
                {"fusions": {"m": {"strategy": "mean", "members": ["nett"]}}},
                ["fusion 'm' takes 'nett'; known: net, five"],
            ),
            (
                {"fusions": {"m": "weighted_mean(weights=[1, 2, 3])"}},
                ["fusion 'm': fusion strategy weighted_mean", "are 3; expected 2, one per member"],
            ),
            ({"fusions": {"m": "weighted_mean(weights=[0, 0])"}}, ["are all 0"]),
            (
                {"members": {"s": {"architecture": TINY, "trainer": "distill(teacher=best)"}}},
                ["student 's' has teacher 'best'; known: s, mean, stacked"],
            ),
            ({"chains": {"c": "mode_filter|crf"}}, ["step 'crf' needs maps"]),
            ({"chains": {"c": "close(only=[9])"}}, ["only=[9]; expected classes from 0 to 4"]),
            ({"chains": {"argmax": "open"}}, ["that name is the empty chain's"]),
            ({"folds": 90}, ["expected at least one each"]),
            (
                {"chains": {"c": "blurr"}, "fusions": {"m": "meen"}, "data": "/nowhere.npz"},
                ["unknown step 'blurr'", "unknown fusion strategy 'meen'", "/nowhere.npz is miss"],
            ),
        ],
    )
    def test_every_reason_is_reported(self, data, tmp_path, capsys, changes, words):
        where = [asked(tmp_path, data, **changes), "--run", tmp_path / "run"]
        document, said = planned(capsys, *where, code=2)
        told = "\n".join(document["fails"])
        assert all(part in told for part in words), told
        assert len(said) == 1
        assert said[0].startswith(f"ens: {tmp_path / 'run'} would fail: ")
        assert said[0].endswith("reasons more") is (len(document["fails"]) > 1)
        assert not (tmp_path / "run").exists()

    def test_for_want_of_disk_says_how_much(self, data, tmp_path, capsys, monkeypatch):
        import shutil

        full = shutil._ntuple_diskusage(10**9, 10**9 - 1, 1)
        monkeypatch.setattr(shutil, "disk_usage", lambda _: full)
        file = asked(tmp_path, data, members={"net": {"architecture": TINY}}, chains={})
        document, _ = planned(capsys, file, "--run", tmp_path / "run", code=2)
        assert "GB would be written and 0.0 GB are free" in document["fails"][0]

    def test_of_a_device_that_is_not_here(self, data, tmp_path, capsys):
        where = [asked(tmp_path, data), "--device", "cuda:9"]
        document, _ = planned(capsys, *where, "--run", tmp_path / "run", code=2)
        assert "device 'cuda:9'; here: auto, cpu" in document["fails"][0]

    def test_without_a_file_is_one_line(self, tmp_path, capsys):
        assert run_command(["plan", str(tmp_path / "no.yaml")]) == 2
        assert "no.yaml is missing" in capsys.readouterr().err


class TestWarnings:
    def test_absent_classes_and_near_duplicates_are_reported(self, tmp_path, capsys):
        rng = np.random.default_rng(0)
        images = rng.integers(0, 255, (40, 4, 6)).astype(np.uint8)
        images = np.kron(images, np.ones((1, 8, 8), np.uint8))
        images[20:] = images[:20] // 2 + 20
        masks = rng.integers(0, 3, (40, 32, 48)).astype(np.uint8)
        masks[masks == 1] = 4
        names = np.array(MARS.names)
        np.savez(tmp_path / "tiles.npz", images=images, masks=masks, classes=names)
        file = asked(
            tmp_path, (tmp_path / "tiles.npz",) * 2, members={"net": {"architecture": TINY}}
        )
        odd = planned(capsys, file, "--run", tmp_path / "run", code=0)[0]["odd"]
        assert any("oof: no pixel of soil, sand" in line for line in odd)
        assert any("near-duplicates of one in another fold or in validation" in o for o in odd)

    def test_images_alike_in_one_fold_are_no_leak(self, tmp_path):
        rng = np.random.default_rng(0)
        images = np.kron(rng.integers(0, 255, (40, 4, 6)), np.ones((1, 8, 8))).astype(np.uint8)
        images[1::2] = images[::2]
        masks = rng.integers(0, 5, images.shape).astype(np.uint8)
        groups = np.array([f"pair {k // 2}" for k in range(40)])
        np.savez(tmp_path / "a.npz", images=images, masks=masks, group=groups)
        np.savez(tmp_path / "b.npz", images=images, masks=masks)
        alike = {}
        for name in "ab":
            laid_out = Run(tmp_path / name)
            prepare(laid_out, Experiment(data=str(tmp_path / f"{name}.npz")), lambda _: None)
            alike[name] = cross_fold_duplicates(laid_out)
            assert len(read_folds(laid_out)) == 3
        assert alike["a"] == []
        assert len(alike["b"]) >= 5
        assert all(abs(int(x) - int(y)) == 1 for x, y in map(_numbers, alike["b"]))


def _numbers(pair):
    return [name.rsplit("-", 1)[-1] for name in pair]


@pytest.mark.parametrize(
    ("accuracy", "confidence", "signs"),
    [
        ((0.30, 0.01), (0.20, 0.01), ["right on oof more often", "more confident by +0.200"]),
        ((0.30, 0.01), (-0.20, 0.01), ["right on oof more often than on validation by +0.300"]),
        ((0.02, 0.01), (0.20, 0.01), ["more confident on oof than on validation by +0.200"]),
        ((-0.016, 0.01), (0.20, 0.01), []),
        ((-0.30, 0.01), (0.20, 0.01), []),
        ((0.30, 0.20), (0.20, 0.20), []),
        ((0.0, np.inf), (np.nan, np.nan), []),
        ((np.nan, np.nan), (np.nan, np.nan), []),
    ],
)
def test_a_member_shows_signs_of_leaking_only_where_it_is_right_more_often(
    accuracy, confidence, signs
):
    found = OofGap("a", *accuracy, *confidence).signs()
    assert len(found) == len(signs)
    assert all(found[k].startswith(sign) for k, sign in enumerate(signs))


@pytest.fixture(scope="module")
def images_beyond_a_block():
    """Seven images of which three make a block, and a large one."""
    sizes = [(400, 420)] * 7 + [(420, 900)]
    rng = np.random.default_rng(0)
    images = stack_images([rng.integers(0, 255, (1, *size), dtype=np.uint8) for size in sizes])
    masks = stack_images([rng.integers(0, 3, size, dtype=np.uint8) for size in sizes])
    ids = tuple(f"i{number}" for number in range(len(sizes)))
    return DataSet(images, masks, ids, None, numbered(3, ignore=None))


def test_times_are_measured_where_few_images_make_a_block(images_beyond_a_block):
    assert min(disk_seconds(images_beyond_a_block, "float16")) > 0
    assert (
        chain_seconds(
            parse_chain("mode_filter(size=3)", classes=3, ignore=None),
            images_beyond_a_block,
            0.0,
        )
        > 0
    )


def test_a_network_is_timed_on_crops_of_its_size(images_beyond_a_block):
    recipe = Recipe(architecture=TINY, epochs=1, batch=2, crop="16x32")
    small = measure_network(Member("net", recipe), images_beyond_a_block, "cpu")
    whole = measure_network(
        Member("net", recipe.model_copy(update={"crop": None})), images_beyond_a_block, "cpu"
    )
    assert 30 * small.image_bytes < whole.image_bytes
    assert small.predict_seconds < 1e-4  # per pixel


class TestGapsBetweenOofAndValidation:
    """What a member of images that it has seen would show, where it can be measured."""

    @pytest.fixture
    def copy(self, trained_run, tmp_path):
        shutil.copytree(trained_run, tmp_path / "run")
        return RunMembers.of(Run(tmp_path / "run"))

    def test_members_are_compared_where_both_have_masks(self, copy):
        gaps = oof_gaps(copy, ["one", "two"])
        assert [gap.member for gap in gaps] == ["one", "two"]
        assert all(np.isfinite(gap.accuracy_error) for gap in gaps)
        (copy.run.data("validation") / "target.npy").unlink()
        assert oof_gaps(copy, ["one", "two"]) == []

    def test_one_group_and_no_scored_pixel_show_no_sign(self):
        one, none = np.array([[5.0, 4.0, 10.0]]), np.empty((0, 3))
        many = np.array([[9.0, 9.0, 10.0]] * 20)
        gap = leakage._gap("a", many, one)
        assert gap.accuracy_gap == pytest.approx(0.4)
        assert np.isinf(gap.accuracy_error)
        assert gap.signs() == []
        assert np.isnan(leakage._gap("a", many, none).accuracy_gap)
        assert leakage._gap("a", many, none).signs() == []


def test_a_chain_that_learns_is_timed_as_it_is_applied(images_beyond_a_block):
    chain = parse_chain("class_bias", classes=3, ignore=None)
    assert 0 < chain_seconds(chain, images_beyond_a_block, 0.0) < 1e-3  # per pixel


def test_a_network_of_resized_images_is_timed_on_these(images_beyond_a_block):
    recipe = Recipe(architecture=TINY, epochs=1, batch=2, size=(32, 48))
    small = measure_network(Member("net", recipe), images_beyond_a_block, "cpu")
    larger = recipe.model_copy(update={"size": (64, 96)})
    large = measure_network(Member("net", larger), images_beyond_a_block, "cpu")
    assert 3 * small.image_bytes < large.image_bytes < 5 * small.image_bytes
