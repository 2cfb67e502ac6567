"""Tuning of post-processing: what helps is found, luck is told from it, and nothing peeks."""

import json
import pickle
import sys
from types import ModuleType

import numpy as np
import pytest

from ensemble.cli import run
from ensemble.pipeline.candidates.chains import fit_on_oof
from ensemble.pipeline.run.experiment import Experiment
from ensemble.pipeline.run.open_run import FOREIGN, OOF, RunMembers
from ensemble.pipeline.tuning import (
    cross_validation,
    grid,
    refits,
    trials,
    tuning,
)
from ensemble.pipeline.tuning import (
    trials as journal,
)
from ensemble.pipeline.tuning.outer_split import Level, groups_of
from ensemble.pipeline.tuning.prefix_cache import Heads
from ensemble.pipeline.tuning.refits import maps_of
from ensemble.pipeline.tuning.selection import Judge, eliminate
from ensemble.pipeline.tuning.tuning import Effort, tune
from evaluation.core.classes import Classes
from evaluation.core.files import write_json
from evaluation.core.provenance import record
from evaluation.core.run_folder import Run
from members.data.dataset import DataSet, write_classes
from members.store import ProbabilityStore
from members.store_metadata import TrainingIds
from postproc.chain import parse_chain
from postproc.step import Step

CLASSES = Classes(("background", "soil", "rock"), 0)
SIZE = (12, 16)
IMAGES = 48
SPECKS, HELP = 0.08, "remove_small(min_area_px=6)"
SPACE = "suppress_background: {}\nclass_bias: {}\nremove_small: {min_area_px: [6]}\n"


def stripes(rng):
    """Return target in two halves, cut at another column in each image."""
    cut = rng.integers(4, 12, IMAGES)
    right = np.arange(SIZE[1]) >= cut[:, None, None]
    return np.broadcast_to(1 + right, (IMAGES, *SIZE)).astype(np.uint8)


def speckled(target, rng, share=SPECKS):
    """Return maps that are right and sure but for single pixels."""
    wrong = rng.random(target.shape) < share
    pred = np.where(wrong, 3 - target, target)
    maps = np.full((len(target), 3, *SIZE), 0.1, np.float32)
    np.put_along_axis(maps, pred[:, None].astype(np.int64), 0.8, axis=1)
    return maps


def made(folder, target, members, *, fusions=None, groups=None, folds=None, seen=None):
    """Write a run whose members are foreign maps."""
    at, rng = Run(folder), np.random.default_rng(7)
    groups = np.array([f"g{k // 2:02}" for k in range(IMAGES)]) if groups is None else groups
    ids = tuple(f"p{k:02}" for k in range(IMAGES))
    images = rng.integers(0, 256, (IMAGES, 1, *SIZE), dtype=np.uint8)
    write_classes(at.classes, CLASSES)
    DataSet(images, target, ids, groups, CLASSES).save(at.data(OOF))
    folds = [(k // 2) % 2 for k in range(IMAGES)] if folds is None else folds
    write_json(at.folds, {"folds": 2, "fold": list(folds)})
    record(at.path / "data", asked={}, inputs={})
    for name, maps in members.items():
        store = ProbabilityStore.create(
            at.probabilities(name, OOF), ids=ids, classes=CLASSES, shape=SIZE, seen=seen
        )
        store.write(slice(0, IMAGES), maps)
        record(store.folder, asked={FOREIGN: name}, inputs={})
    Experiment(data="sample", folds=2, fusions=fusions or {}).write(at.experiment)
    return at


@pytest.fixture
def planted(tmp_path):
    """A run with specks in its maps, one member and one fusion of two that learns."""
    rng = np.random.default_rng(0)
    target = stripes(rng)
    members = {"one": speckled(target, rng), "two": speckled(target, rng, share=0.2)}
    (tmp_path / "space.yaml").write_text(SPACE)
    return made(tmp_path / "run", target, members, fusions={"weighted": "stacking"})


@pytest.fixture
def lottery(monkeypatch):
    """A step that gives each image one label, drawn by its seed: any gain of it is luck."""

    def factory(classes, *, ticket: int):
        def apply(maps, _):
            drawn = [
                np.random.default_rng([ticket, *map(ord, f"{m.sum():.9f}")]) for m in maps[:, 1]
            ]
            labels = np.array([rng.integers(1, classes) for rng in drawn], np.uint8)
            return np.broadcast_to(labels[:, None, None], maps[:, 0].shape).copy()

        return Step("maps", "labels", apply)

    module = ModuleType("planted_lottery")
    module.factory, module.ENS_ENTRIES = factory, {"step": {"lottery": "planted_lottery:factory"}}
    monkeypatch.setitem(sys.modules, "planted_lottery", module)
    monkeypatch.setenv("ENS_PLUGINS", "planted_lottery")


def effort(at, number=6, seed=0):
    return Effort(trials=number, seed=seed, space=at.path.parent / "space.yaml")


def tuned(at, source="one", *, name=None, told=None, **asked):
    log = (told if told is not None else []).append
    return tune(at, source, effort(at, **asked), name=name, log=log)


def level_of(at, source="one", kept_bytes=1 << 28):
    """Return the search on all images and its judge."""
    work = at.path / "work"
    work.mkdir(exist_ok=True)
    found = cross_validation.pool_of(at, seed=0)
    level = Level(found, Heads(found, kept_bytes), maps_of(RunMembers.of(at), source, work))
    return level, Judge(CLASSES, groups_of(found, level.searched))


def chain_of(text):
    return parse_chain(text, classes=3, ignore=0)


def with_other_target(at, fold):
    """Give the images of a fold another target."""
    file = at.data(OOF) / "target.npy"
    target = np.load(file)
    own = np.array(json.loads(at.folds.read_text())["fold"]) == fold
    target[own] = 3 - target[own]
    target[own, :, :5] = 1
    np.save(file, target)


class TestWhatIsFound:
    def test_a_step_that_helps_is_found_and_kept(self, planted):
        result = tuned(planted)
        assert result["chain"] == HELP
        assert [(step["step"], step["kept"]) for step in result["steps"]][:1] == [(HELP, True)]
        assert result["examined_gain"]["interval"]["low"] > 0.05
        assert abs(result["optimism"]) < 0.02
        assert [fold["chain"] for fold in result["folds"]] == [HELP, HELP]

    def test_the_tuned_score_is_that_of_the_chain_on_all_images(self, planted):
        result = tuned(planted)
        level, judge = level_of(planted)
        counts = level.counts(chain_of(HELP), level.searched)
        assert result["tuned"] == pytest.approx(judge.score(counts))
        assert result["examined"] == pytest.approx(judge.score(counts))  # it learns nothing

    def test_a_useless_step_is_dropped(self, planted):
        level, judge = level_of(planted)
        chain, verdicts = eliminate(level, judge, chain_of(f"suppress_background|{HELP}"))
        assert str(chain) == HELP
        assert [(v.step, v.kept) for v in verdicts] == [
            (HELP, True),
            ("suppress_background", False),
        ]
        assert verdicts[1].gain.difference == 0

    def test_a_step_that_costs_a_class_is_dropped_whatever_it_gains(self, planted, monkeypatch):
        level, judge = level_of(planted)
        monkeypatch.setattr(Judge, "falls", lambda *_: ["rock"])
        chain, verdicts = eliminate(level, judge, chain_of(HELP))
        assert str(chain) == ""
        assert verdicts[0].gain.real
        assert verdicts[0].falls == ("rock",)

    def test_a_class_that_surely_falls_is_named(self, planted):
        level, judge = level_of(planted)
        plain = level.counts(chain_of(""), level.searched)
        worse = plain.copy()
        worse[:, 2, 1] += worse[:, 2, 2] // 2
        worse[:, 2, 2] -= worse[:, 2, 2] // 2
        assert "rock" in judge.falls(worse, plain)
        assert judge.falls(plain, plain) == []


class TestHonesty:
    @pytest.mark.slow
    def test_luck_is_tuned_but_not_examined(self, tmp_path, lottery):
        rng = np.random.default_rng(3)
        target = np.broadcast_to(rng.integers(1, 3, (IMAGES, 1, 1)), (IMAGES, *SIZE))
        maps = np.moveaxis(rng.dirichlet([1, 1, 1], (IMAGES, *SIZE)), -1, 1).astype(np.float32)
        (tmp_path / "space.yaml").write_text("lottery: {ticket: {low: 0, high: 10000}}\n")
        # Half of the plain labels are right, as half of the tickets.
        at = made(tmp_path / "run", target.astype(np.uint8), {"one": maps})
        result = tuned(at, number=25)
        assert result["chain"].startswith("lottery")
        assert result["tuned"] > result["plain"] + 0.1
        assert result["optimism"] > 0.1
        assert result["examined_gain"]["interval"]["low"] < result["tuned"] - result["plain"] - 0.1

    @pytest.mark.slow
    @pytest.mark.parametrize("source", ["one", "weighted"])
    def test_the_examined_target_has_no_say_in_what_is_chosen(self, planted, source, capsys):
        fused(planted, capsys)
        before = tuned(planted, source)["folds"]
        with_other_target(planted, fold=0)
        after = tuned(planted, source)["folds"]
        for part in ("chain", "fitted", "tuned", "steps", "trials"):
            assert after[0][part] == before[0][part]
        assert after[1]["tuned"] != before[1]["tuned"]
        assert after[0]["score"] != before[0]["score"]

    def test_a_fusion_that_learns_is_fitted_anew_without_each_fold(
        self, planted, capsys, monkeypatch
    ):
        fused(planted, capsys)
        seen, real = [], refits.cross_fit

        def spy(built, blocks, fold_of):
            seen.append((np.asarray(blocks.target) == 255, fold_of))
            return real(built, blocks, fold_of)

        monkeypatch.setattr(refits, "cross_fit", spy)
        tuned(planted, "weighted")
        run_fold = np.array(json.loads(planted.folds.read_text())["fold"])
        assert len(seen) == 2
        for fold, (hidden, fold_of) in enumerate(seen):
            np.testing.assert_array_equal(hidden.all(axis=(1, 2)), run_fold == fold)
            np.testing.assert_array_equal(fold_of == fold_of.max(), run_fold == fold)
            assert set(fold_of[run_fold != fold]) == {0, 1}

    def test_no_group_teaches_both_a_fusion_and_its_calibrator(self, planted, capsys, monkeypatch):
        fused(planted, capsys, "stacking(calibrate=temperature)")
        told, real = [], refits.cross_fit

        def spy(built, blocks, fold_of):
            told.append(blocks.groups)
            return real(built, blocks, fold_of)

        monkeypatch.setattr(refits, "cross_fit", spy)
        tuned(planted, "weighted", number=1)
        expected = DataSet.load(planted.data(OOF)).groups
        assert [groups.tolist() for groups in told] == [expected.tolist()] * 2

    @pytest.mark.parametrize("between", ["mean", "stacking", "mean over mean"])
    def test_a_fusion_of_one_that_learns_is_refused_before_any_work(self, planted, capsys, between):
        fused(planted, capsys)
        below = "weighted"
        for level, strategy in enumerate(between.split(" over ")):
            words = ["--strategy", strategy, "--members", f"one,{below}", "--name", f"f{level}"]
            assert run(["fuse", "--run", str(planted.path), *words]) == 0
            below = f"f{level}"
        said = refused(capsys, planted, "--fusion", below)
        assert "is made of 'weighted', which learned from the folds that would examine it" in said
        assert not (planted.path / "tuning").exists()

    def test_a_fusion_of_one_that_learns_nothing_is_tuned(self, planted, capsys):
        for name, members in (("below", "one,two"), ("above", "one,below")):
            words = ["--strategy", "mean", "--members", members, "--name", name]
            assert run(["fuse", "--run", str(planted.path), *words]) == 0
        assert tuned(planted, "above", number=1)["of"] == "above"

    def test_what_learns_nothing_is_not_fitted_anew(self, planted, monkeypatch):
        fitted = []
        monkeypatch.setattr(refits, "cross_fit", lambda *_: fitted.append(1))
        tuned(planted, "one")
        assert fitted == []

    def test_a_step_learns_as_in_a_run(self, planted):
        level, _ = level_of(planted)
        chain = chain_of("class_bias")
        expected = fit_on_oof(RunMembers.of(planted), "one", chain, lambda _: None)
        found = [str(level.fitted(chain, fold)) for fold in (0, 1, None)]
        assert found == [*map(str, expected.crossed.chains), str(expected.chain)]


def fused(at, capsys, strategy="stacking"):
    assert run(["fuse", "--run", str(at.path), "--strategy", strategy, "--name", "weighted"]) == 0
    capsys.readouterr()


class TestWork:
    def test_a_head_that_two_chains_share_runs_once(self, planted):
        level, _ = level_of(planted)
        for tail in ("remove_small", "open", "remove_small|open"):
            level.counts(chain_of(f"blur|mode_filter|{tail}"), level.searched)
        blocks = len(level.searched)
        assert level.heads.runs == {
            "blur": blocks, "mode_filter": blocks, "remove_small": blocks, "open": 2 * blocks,
        }  # fmt: skip

    def test_what_does_not_fit_into_memory_is_made_again_and_comes_out_the_same(self, planted):
        large, _ = level_of(planted)
        small, _ = level_of(planted, kept_bytes=0)
        chain = chain_of("blur|remove_small")
        for _ in range(2):
            np.testing.assert_array_equal(
                small.counts(chain, small.searched), large.counts(chain, large.searched)
            )
        assert small.heads.runs["blur"] == 2 * large.heads.runs["blur"]

    @pytest.mark.slow
    def test_a_search_that_was_stopped_goes_on_as_if_it_had_not(self, planted, monkeypatch):
        whole = tuned(planted, name="whole", number=7)
        left, real = [4], journal.enter

        def enter(file, tried):
            real(file, tried)
            left[0] -= 1
            if not left[0]:
                raise KeyboardInterrupt

        monkeypatch.setattr(trials, "enter", enter)
        with pytest.raises(KeyboardInterrupt):
            tuned(planted, name="parts", number=7)
        file = planted.path / "tuning" / "parts" / "all.jsonl"
        file.write_text(file.read_text() + '{"number": 4, "cha')
        parts = tuned(planted, name="parts", number=7)
        assert left[0] == 4 - 3 * 7
        assert {**parts, "name": "whole"} == whole
        for name in ("all", "without-0", "without-1"):
            rows = [
                [{**json.loads(line), "seconds": 0} for line in path.read_text().splitlines()]
                for path in (planted.path.glob(f"tuning/*/{name}.jsonl"))
            ]
            assert len(rows) == 2
            assert rows[0] == rows[1]

    def test_more_trials_add_to_those_there_are(self, planted, monkeypatch):
        tuned(planted, number=5)
        entered, real = [], journal.enter

        def noting(*given):
            entered.append(1)
            real(*given)

        monkeypatch.setattr(trials, "enter", noting)
        assert sum(tuned(planted, number=7)["trials"].values()) == 21
        assert len(entered) == 6

    def test_a_finished_result_is_read_and_a_stale_one_made_anew(self, planted, monkeypatch):
        first, told = tuned(planted), []
        monkeypatch.setattr(tuning, "_levels", None)
        assert tuned(planted, told=told) == first
        assert told == []
        monkeypatch.undo()
        with_other_target(planted, fold=1)
        assert tuned(planted, told=told) != first
        assert any("begun anew, since maps, data or what is asked have changed" in t for t in told)
        assert not (planted.path / "tuning" / "one" / "work").exists()

    def test_a_hopeless_chain_is_stopped_early(self, tmp_path, lottery, monkeypatch):
        monkeypatch.setattr(cross_validation, "BLOCK", 3)
        rng = np.random.default_rng(0)
        target = stripes(rng)
        (tmp_path / "space.yaml").write_text("lottery: {ticket: [1]}\n")
        singles = np.array([f"g{k}" for k in range(IMAGES)])
        at = made(tmp_path / "run", target, {"one": speckled(target, rng)}, groups=singles)
        tuned(at, number=2)
        lines = (at.path / "tuning" / "one" / "all.jsonl").read_text().splitlines()
        plain, lost = map(json.loads, lines)
        assert (plain["state"], lost["state"]) == ("complete", "pruned")
        assert "16" in plain["looks"]
        assert "16" not in lost["looks"]


class TestTheVerb:
    def test_prints_tuned_examined_and_their_difference(self, planted, capsys):
        asked = ["tune-postproc", "--run", str(planted.path), "--fusion", "one", "--trials", "6"]
        asked += ["--space", str(planted.path.parent / "space.yaml")]
        assert run(asked) == 0
        said = capsys.readouterr()
        assert f"chain: {HELP}\n" in said.out
        assert "forecast: 14 trials to go, about 0 minutes" in said.err
        for words in (
            "no post-processing  0.",
            "tuned               0.",
            "examined gain       +0.",
        ):
            assert words in said.out
        assert f"--chain '{HELP}'" in said.out
        assert run([*asked, "--json"]) == 0
        result = json.loads(capsys.readouterr().out)
        assert result["optimism"] == pytest.approx(result["tuned"] - result["examined"])
        table = (planted.path / "tuning" / "one" / "trials.csv").read_text().splitlines()
        assert len(table) == 1 + 3 * 6

    def test_draws_a_grid_over_two_options(self, planted, capsys):
        out = planted.path.parent / "grid.png"
        asked = ["tune-postproc", "--run", str(planted.path), "--fusion", "one", "--out", str(out)]
        asked += ["--grid", "remove_small.min_area_px=1,6", "--grid", "blur.sigma=0.5,1,2"]
        assert run([*asked, "--image", "p05", "--json"]) == 0
        document = json.loads(capsys.readouterr().out)
        assert document["images"] == ["p05"]
        assert (document["cells"], len(document["scores"]), len(document["scores"][0])) == (6, 2, 3)
        assert document["scores"][1][0] > document["plain"] + 0.05
        assert out.read_bytes().startswith(b"\x89PNG")


def refused(capsys, at, *options):
    """Return the one line of a refusal."""
    capsys.readouterr()
    assert run(["tune-postproc", "--run", str(at.path), *map(str, options)]) == 2
    said = capsys.readouterr().err
    assert len(said.splitlines()) == 1
    return said


def test_a_grid_of_few_images_shows_none_twice():
    assert grid._telling(np.array([1, 3])) == [1]


class TestBadInput:
    def test_no_such_fusion(self, planted, capsys):
        said = refused(capsys, planted, "--fusion", "none")
        assert "no member or fusion 'none'; known: one, two" in said

    def test_no_out_of_fold_maps(self, planted, capsys):
        planted.probabilities("one", OOF).rename(planted.path / "aside")
        (planted.probabilities("one", "oof").parent / "other").mkdir()
        said = refused(capsys, planted, "--fusion", "one")
        assert "no member or fusion 'one'" in said or "'one' has no maps of split 'oof'" in said

    @pytest.mark.parametrize(
        ("groups", "folds", "words"),
        [
            ("a" * IMAGES, None, "all 48 images are of one group; expected several to divide"),
            ("ab" * 24, [0, 1] * 24, "fold 0 holds 1 group; expected 2 or more to tune on"),
            ("aabc" * 12, [0, 1] * 24, "group 'a' lies in two folds; fold by group to examine"),
        ],
        ids=["one group", "one group a fold", "a group in two folds"],
    )
    def test_groups_that_cannot_be_divided(self, tmp_path, capsys, groups, folds, words):
        rng = np.random.default_rng(0)
        target = stripes(rng)
        maps = {"one": speckled(target, rng)}
        at = made(tmp_path / "run", target, maps, groups=np.array(list(groups)), folds=folds)
        assert words in refused(capsys, at, "--fusion", "one")

    def test_maps_of_images_that_were_trained_on(self, tmp_path, capsys):
        rng = np.random.default_rng(0)
        target, saw = stripes(rng), TrainingIds((frozenset({"p03", "p04"}),))
        at = made(tmp_path / "run", target, {"one": speckled(target, rng)}, seen=saw)
        said = refused(capsys, at, "--fusion", "one")
        assert "tune-postproc would learn from 2 images that 'one' was trained on" in said

    @pytest.mark.parametrize(
        ("space", "words"),
        [
            ("blurr: {}", "unknown step 'blurr'"),
            ("blur: {sigma: 3}", "blur.sigma got 3; expected a list of choices or {low: "),
            ("blur: {sigma: [1, -1]}", "option 'sigma' got -1"),
            ("blur: {size: [1]}", "has no option 'size'"),
            ("crf: {iterations: {low: 9, high: 2}}", "low 9 is not below high 2"),
            ("[blur", "cannot be read as YAML"),
            ("", "names no step; expected lines such as remove_small"),
        ],
    )
    def test_a_space_that_cannot_be_searched(self, planted, capsys, space, words):
        file = planted.path.parent / "space.yaml"
        file.write_text(space)
        said = refused(capsys, planted, "--fusion", "one", "--space", file)
        assert words in said
        assert str(file) in said

    @pytest.mark.parametrize(
        ("grids", "words"),
        [
            (["blur.sigma=1,2"], "--chain, --image and --out go with --grid, given twice"),
            (["blur.sigma", "blur.sigma=1"], "expected STEP.OPTION=A,B,... such as crf."),
            (["blur.sigma=-1", "open.size=3"], "option 'sigma' got -1"),
            (["class_bias.floor=0.1", "open.size=3"], "learns; write what it has learned"),
        ],
    )
    def test_a_grid_that_cannot_be_drawn(self, planted, capsys, grids, words, tmp_path):
        options = [part for grid in grids for part in ("--grid", grid)]
        out = tmp_path / "grid.png"
        said = refused(capsys, planted, "--fusion", "one", "--out", out, *options)
        assert words in said
        named = ["--grid", "blur.sigma=1", "--grid", "open.size=3", "--image", "px"]
        said = refused(capsys, planted, "--fusion", "one", "--out", out, *named)
        assert "no image 'px' in oof; known: p00, ..." in said
        searched = ["--grid", "blur.sigma=1", "--grid", "open.size=3", "--trials", "60"]
        said = refused(capsys, planted, "--fusion", "one", "--out", out, *searched)
        assert "--trials is of a search, --grid of a drawing; give one" in said
        assert not out.exists()


def test_a_grid_is_drawn_into_a_new_png_alone(planted, tmp_path, capsys):
    (tmp_path / "there.png").touch()
    for name in ("grid.jpg", "there.png"):
        words = [*("--grid", "blur.sigma=1"), *("--grid", "open.size=3")]
        command = ["tune-postproc", "--run", str(planted.path), "--fusion", "one", *words]
        assert run([*command, "--out", str(tmp_path / name)]) == 2
        assert "expected a new file that ends in .png" in capsys.readouterr().err
    assert not (tmp_path / "grid.jpg").exists()
    assert (tmp_path / "there.png").stat().st_size == 0


def test_a_process_keeps_what_it_made_when_the_same_heads_are_sent_again(planted):
    level, _ = level_of(planted)
    sent = pickle.dumps(level.heads)
    first, again = pickle.loads(sent), pickle.loads(sent)
    assert again is first
    other, _ = level_of(planted)
    assert pickle.loads(pickle.dumps(other.heads)) is not first
