"""Tuning of post-processing: useful steps are found, chance is not, and no target leaks."""

import json
import pickle
import sys
from dataclasses import replace
from types import ModuleType

import numpy as np
import pytest

from ensemble.cli import run_command
from ensemble.pipeline.candidates.chains import fit_on_oof
from ensemble.pipeline.run.experiment import Experiment
from ensemble.pipeline.run.open_run import IMPORTED, RunMembers
from ensemble.pipeline.tuning import cross_fitted_counts, grid, refits, trials, tuning
from ensemble.pipeline.tuning.cross_fitted_counts import CvPool, OuterSplit, PrefixCache
from ensemble.pipeline.tuning.refits import copy_oof
from ensemble.pipeline.tuning.results import TuningResult, format_tuning
from ensemble.pipeline.tuning.selection import AblationResult, Gain, GainTest, eliminate
from ensemble.pipeline.tuning.tuning import TuningBudget, tune
from evaluation.core.classes import Classes
from evaluation.core.errors import BadSpec
from evaluation.core.files import write_json
from evaluation.core.provenance import record
from evaluation.core.ragged import Extent
from evaluation.core.run_folder import OOF, Run
from evaluation.core.specs import Spec
from evaluation.intervals import Interval
from members.data.dataset import DataSet, write_classes
from members.store import ProbabilityStore
from members.store_metadata import TrainingIds
from postproc.chain import parse_chain
from postproc.step import Step

CLASSES = Classes(("background", "soil", "rock"), 0)
SIZE = (12, 16)
IMAGES = 48
SPECKS, HELP = 0.08, "remove_small(min_area_px=6)"
AXES = ["blur.sigma=1", "open.size=3"]
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


def write_run(folder, target, members, *, fusions=None, groups=None, folds=None, seen=None):
    """Write a run whose members are foreign maps."""
    at, rng = Run(folder), np.random.default_rng(7)
    groups = np.array([f"g{k // 2:02}" for k in range(IMAGES)]) if groups is None else groups
    ids = tuple(f"p{k:02}" for k in range(IMAGES))
    images = rng.integers(0, 256, (IMAGES, 1, *SIZE), dtype=np.uint8)
    write_classes(at.classes, CLASSES)
    DataSet(images, target, ids, groups, CLASSES).save(at.data(OOF))
    folds = [(k // 2) % 2 for k in range(IMAGES)] if folds is None else folds
    write_json(at.folds, {"folds": 2, "fold": list(folds)})
    record(at.path / "data", config={}, inputs={})
    for name, maps in members.items():
        store = ProbabilityStore.create(
            at.probabilities(name, OOF),
            ids=ids,
            classes=CLASSES,
            extent=Extent.uniform(len(ids), SIZE),
            seen=seen,
        )
        store.write(slice(0, IMAGES), maps)
        record(store.folder, config={IMPORTED: name}, inputs={})
    Experiment(data="sample", folds=2, fusions=fusions or {}).write(at.experiment)
    return at


@pytest.fixture
def planted(tmp_path):
    """A run with specks in its maps, one member and one fusion of two that learns."""
    rng = np.random.default_rng(0)
    target = stripes(rng)
    members = {"one": speckled(target, rng), "two": speckled(target, rng, share=0.2)}
    (tmp_path / "space.yaml").write_text(SPACE)
    return write_run(tmp_path / "run", target, members, fusions={"weighted": "stacking"})


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


def budget(at, number=6, seed=0):
    return TuningBudget(trials=number, seed=seed, space=at.path.parent / "space.yaml")


def run_tuning(at, source="one", *, name=None, log_lines=None, **arguments):
    log = (log_lines if log_lines is not None else []).append
    return tune(at, source, budget(at, **arguments), name=name, log=log)


def split_of(at, source="one", max_bytes=1 << 28):
    """Return the split of the search on all images, and its test."""
    work = at.path / "work"
    work.mkdir(exist_ok=True)
    pool = CvPool.create(at, seed=0)
    maps = copy_oof(RunMembers.of(at), source, pool.data, work)
    split = OuterSplit(pool, PrefixCache(pool, max_bytes), maps)
    return split, GainTest(CLASSES, pool.groups_of(split.train_blocks))


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


class TestSelection:
    def test_a_step_that_helps_is_found_and_kept(self, planted):
        result = run_tuning(planted)
        assert result.chain == HELP
        assert [(step.step, step.kept) for step in result.steps][:1] == [(HELP, True)]
        assert result.examined_gain.interval.low > 0.05
        assert abs(result.optimism) < 0.02
        assert [fold.chain for fold in result.folds] == [HELP, HELP]

    def test_the_tuned_score_is_that_of_the_chain_on_all_images(self, planted):
        result = run_tuning(planted)
        split, test = split_of(planted)
        counts = split.counts(chain_of(HELP), split.train_blocks)
        assert result.tuned == pytest.approx(test.score(counts))
        assert result.examined == pytest.approx(test.score(counts))  # it learns nothing

    def test_a_useless_step_is_dropped(self, planted):
        split, test = split_of(planted)
        chain, steps = eliminate(split, test, chain_of(f"suppress_background|{HELP}"))
        assert str(chain) == HELP
        assert [(step.step, step.kept) for step in steps] == [
            (HELP, True),
            ("suppress_background", False),
        ]
        assert steps[1].gain == 0

    def test_a_step_that_regresses_a_class_is_dropped_whatever_its_gain(self, planted, monkeypatch):
        split, test = split_of(planted)
        monkeypatch.setattr(GainTest, "regressed_classes", lambda *_: ["rock"])
        chain, steps = eliminate(split, test, chain_of(HELP))
        assert str(chain) == ""
        assert steps[0].interval.low > 0
        assert steps[0].classes_that_fall == ("rock",)

    def test_a_significantly_regressed_class_is_named(self, planted):
        split, test = split_of(planted)
        plain = split.counts(chain_of(""), split.train_blocks)
        worse = plain.copy()
        worse[:, 2, 1] += worse[:, 2, 2] // 2
        worse[:, 2, 2] -= worse[:, 2, 2] // 2
        assert "rock" in test.regressed_classes(worse, plain)
        assert test.regressed_classes(plain, plain) == []


class TestNestedEvaluation:
    @pytest.mark.slow
    def test_a_gain_by_chance_does_not_appear_in_the_examined_score(self, tmp_path, lottery):
        rng = np.random.default_rng(3)
        target = np.broadcast_to(rng.integers(1, 3, (IMAGES, 1, 1)), (IMAGES, *SIZE))
        maps = np.moveaxis(rng.dirichlet([1, 1, 1], (IMAGES, *SIZE)), -1, 1).astype(np.float32)
        (tmp_path / "space.yaml").write_text("lottery: {ticket: {low: 0, high: 10000}}\n")
        # Half of the plain labels are right, as half of the tickets.
        at = write_run(tmp_path / "run", target.astype(np.uint8), {"one": maps})
        result = run_tuning(at, number=25)
        assert result.chain.startswith("lottery")
        assert result.tuned > result.plain + 0.1
        assert result.optimism > 0.1
        assert result.examined_gain.interval.low < result.tuned - result.plain - 0.1

    @pytest.mark.slow
    @pytest.mark.parametrize("source", ["one", "weighted"])
    def test_the_target_of_a_fold_has_no_effect_on_the_search_without_it(
        self, planted, source, capsys
    ):
        add_fusion(planted, capsys)
        before = run_tuning(planted, source).folds
        with_other_target(planted, fold=0)
        after = run_tuning(planted, source).folds
        for name in ("chain", "fitted", "tuned", "steps", "trials"):
            assert getattr(after[0], name) == getattr(before[0], name)
        assert after[1].tuned != before[1].tuned
        assert after[0].score != before[0].score

    def test_a_fusion_that_learns_is_refitted_without_each_fold(self, planted, capsys, monkeypatch):
        add_fusion(planted, capsys)
        seen, real = [], refits.cross_fit

        def spy(built, blocks, fold_of):
            seen.append((blocks.target[:] == 255, fold_of))
            return real(built, blocks, fold_of)

        monkeypatch.setattr(refits, "cross_fit", spy)
        run_tuning(planted, "weighted")
        run_fold = np.array(json.loads(planted.folds.read_text())["fold"])
        assert len(seen) == 2
        for fold, (hidden, fold_of) in enumerate(seen):
            np.testing.assert_array_equal(hidden.all(axis=(1, 2)), run_fold == fold)
            np.testing.assert_array_equal(fold_of == fold_of.max(), run_fold == fold)
            assert set(fold_of[run_fold != fold]) == {0, 1}

    def test_refits_are_given_the_groups_of_images(self, planted, capsys, monkeypatch):
        add_fusion(planted, capsys, "stacking(calibrate=temperature)")
        log_lines, real = [], refits.cross_fit

        def spy(built, blocks, fold_of):
            log_lines.append(blocks.groups)
            return real(built, blocks, fold_of)

        monkeypatch.setattr(refits, "cross_fit", spy)
        run_tuning(planted, "weighted", number=1)
        expected = DataSet.load(planted.data(OOF)).groups
        assert [groups.tolist() for groups in log_lines] == [expected.tolist()] * 2

    @pytest.mark.parametrize("between", ["mean", "stacking", "mean over mean"])
    def test_a_fusion_of_one_that_learns_is_refused_before_any_work(self, planted, capsys, between):
        add_fusion(planted, capsys)
        below = "weighted"
        for level, strategy in enumerate(between.split(" over ")):
            words = ["--strategy", strategy, "--members", f"one,{below}", "--name", f"f{level}"]
            assert run_command(["fuse", "--run", str(planted.path), *words]) == 0
            below = f"f{level}"
        message = refusal(capsys, planted, source=below)
        assert (
            "is made of 'weighted', which learned from the folds that would evaluate it" in message
        )
        assert not (planted.path / "tuning").exists()

    def test_a_fusion_of_one_that_learns_nothing_is_tuned(self, planted, capsys):
        for name, members in (("below", "one,two"), ("above", "one,below")):
            words = ["--strategy", "mean", "--members", members, "--name", name]
            assert run_command(["fuse", "--run", str(planted.path), *words]) == 0
        assert run_tuning(planted, "above", number=1).of == "above"

    def test_a_member_is_not_refitted(self, planted, monkeypatch):
        fitted = []
        monkeypatch.setattr(refits, "cross_fit", lambda *_: fitted.append(1))
        run_tuning(planted, "one")
        assert fitted == []

    def test_a_step_is_fitted_as_by_postprocess(self, planted):
        split, _ = split_of(planted)
        chain = chain_of("class_bias")
        expected = fit_on_oof(RunMembers.of(planted), "one", chain, lambda _: None)
        actual = [str(split.fitted_without(chain, fold)) for fold in (0, 1, None)]
        assert actual == [*map(str, expected.cross_fitted.chains), str(expected.chain)]


def add_fusion(at, capsys, strategy="stacking"):
    assert (
        run_command(
            [
                "fuse",
                "--run",
                str(at.path),
                "--strategy",
                strategy,
                "--name",
                "weighted",
            ]
        )
        == 0
    )
    capsys.readouterr()


class TestCacheAndJournal:
    def test_a_common_prefix_of_two_chains_runs_once(self, planted):
        split, _ = split_of(planted)
        for tail in ("remove_small", "open", "remove_small|open"):
            split.counts(chain_of(f"blur|mode_filter|{tail}"), split.train_blocks)
        blocks = len(split.train_blocks)
        assert split.cache.runs == {
            "blur": blocks, "mode_filter": blocks, "remove_small": blocks, "open": 2 * blocks,
        }  # fmt: skip

    def test_results_without_cache_equal_those_with_cache(self, planted):
        large, _ = split_of(planted)
        small, _ = split_of(planted, max_bytes=0)
        chain = chain_of("blur|remove_small")
        for _ in range(2):
            np.testing.assert_array_equal(
                small.counts(chain, small.train_blocks), large.counts(chain, large.train_blocks)
            )
        assert small.cache.runs["blur"] == 2 * large.cache.runs["blur"]

    @pytest.mark.slow
    def test_an_interrupted_search_resumes_as_if_it_had_not_been_interrupted(
        self, planted, monkeypatch
    ):
        whole = run_tuning(planted, name="whole", number=7)
        left, real = [4], trials.append_trial

        def enter(file, tried):
            real(file, tried)
            left[0] -= 1
            if not left[0]:
                raise KeyboardInterrupt

        monkeypatch.setattr(trials, "append_trial", enter)
        with pytest.raises(KeyboardInterrupt):
            run_tuning(planted, name="parts", number=7)
        file = planted.path / "tuning" / "parts" / "all.jsonl"
        file.write_text(file.read_text() + '{"number": 4, "cha')
        parts = run_tuning(planted, name="parts", number=7)
        assert left[0] == 4 - 3 * 7
        assert replace(parts, name="whole") == whole
        for name in ("all", "without-0", "without-1"):
            rows = [
                [{**json.loads(line), "seconds": 0} for line in path.read_text().splitlines()]
                for path in (planted.path.glob(f"tuning/*/{name}.jsonl"))
            ]
            assert len(rows) == 2
            assert rows[0] == rows[1]

    def test_more_trials_add_to_existing_ones(self, planted, monkeypatch):
        run_tuning(planted, number=5)
        entered, real = [], trials.append_trial

        def noting(*given):
            entered.append(1)
            real(*given)

        monkeypatch.setattr(trials, "append_trial", noting)
        assert sum(run_tuning(planted, number=7).trials.values()) == 21
        assert len(entered) == 6

    def test_a_current_result_is_read_and_a_stale_one_recreated(self, planted, monkeypatch):
        first, log_lines = run_tuning(planted), []
        monkeypatch.setattr(tuning, "_outer_splits", None)
        assert run_tuning(planted, log_lines=log_lines) == first
        assert log_lines == []
        monkeypatch.undo()
        with_other_target(planted, fold=1)
        assert run_tuning(planted, log_lines=log_lines) != first
        assert any("restarted, since maps, data or options have changed" in t for t in log_lines)
        assert not (planted.path / "tuning" / "one" / "work").exists()

    def test_a_significantly_worse_chain_is_pruned(self, tmp_path, lottery, monkeypatch):
        monkeypatch.setattr(cross_fitted_counts, "BLOCK_IMAGES", 3)
        rng = np.random.default_rng(0)
        target = stripes(rng)
        (tmp_path / "space.yaml").write_text("lottery: {ticket: [1]}\n")
        singles = np.array([f"g{k}" for k in range(IMAGES)])
        at = write_run(tmp_path / "run", target, {"one": speckled(target, rng)}, groups=singles)
        run_tuning(at, number=2)
        lines = (at.path / "tuning" / "one" / "all.jsonl").read_text().splitlines()
        plain, lost = map(json.loads, lines)
        assert (plain["state"], lost["state"]) == ("complete", "pruned")
        assert "16" in plain["looks"]
        assert "16" not in lost["looks"]


class TestCommand:
    def test_command_prints_tuned_and_examined_scores(self, planted, capsys):
        options = ["--trials", "6", "--space", planted.path.parent / "space.yaml"]
        assert tune_postproc(planted, *options) == 0
        message = capsys.readouterr()
        assert f"chain: {HELP}\n" in message.out
        assert "forecast: 14 trials to go, about 0 minutes" in message.err
        for words in (
            "no post-processing  0.",
            "tuned               0.",
            "examined gain       +0.",
        ):
            assert words in message.out
        assert f"--chain '{HELP}'" in message.out
        assert tune_postproc(planted, *options, "--json") == 0
        result = json.loads(capsys.readouterr().out)
        assert result["optimism"] == pytest.approx(result["tuned"] - result["examined"])
        table = (planted.path / "tuning" / "one" / "trials.csv").read_text().splitlines()
        assert len(table) == 1 + 3 * 6

    def test_command_draws_a_grid_over_two_options(self, planted, capsys):
        out = planted.path.parent / "grid.png"
        axes = ["--grid", "remove_small.min_area_px=1,6", "--grid", "blur.sigma=0.5,1,2"]
        assert tune_postproc(planted, "--out", out, *axes, "--image", "p05", "--json") == 0
        document = json.loads(capsys.readouterr().out)
        assert document["images"] == ["p05"]
        assert (document["cells"], len(document["scores"]), len(document["scores"][0])) == (6, 2, 3)
        assert document["scores"][1][0] > document["plain"] + 0.05
        assert out.read_bytes().startswith(b"\x89PNG")


def tune_postproc(at, *options, source="one"):
    """Run the command; return its exit code."""
    return run_command(
        ["tune-postproc", "--run", str(at.path), "--fusion", source, *map(str, options)]
    )


def refusal(capsys, at, *options, source="one"):
    """Return the one line of a refusal."""
    capsys.readouterr()
    assert tune_postproc(at, *options, source=source) == 2
    message = capsys.readouterr().err
    assert len(message.splitlines()) == 1
    return message


def test_a_grid_of_few_images_shows_no_image_twice():
    assert grid._typical_changes(np.array([1, 3])) == [1]


class TestRefusals:
    def test_an_unknown_fusion_is_refused(self, planted, capsys):
        message = refusal(capsys, planted, source="none")
        assert "no member or fusion 'none'; known: one, two" in message

    def test_missing_out_of_fold_maps_are_refused(self, planted, capsys):
        planted.probabilities("one", OOF).rename(planted.path / "aside")
        (planted.probabilities("one", "oof").parent / "other").mkdir()
        message = refusal(capsys, planted)
        assert (
            "no member or fusion 'one'" in message or "'one' has no maps of split 'oof'" in message
        )

    @pytest.mark.parametrize(
        ("groups", "folds", "words"),
        [
            ("a" * IMAGES, None, "all 48 images are of one group; expected several to divide"),
            ("ab" * 24, [0, 1] * 24, "fold 0 holds 1 group; expected 2 or more to tune on"),
            ("aabc" * 12, [0, 1] * 24, "group 'a' lies in two folds; fold by group to evaluate"),
        ],
        ids=["one group", "one group a fold", "a group in two folds"],
    )
    def test_groups_that_cannot_be_divided_are_refused(
        self, tmp_path, capsys, groups, folds, words
    ):
        rng = np.random.default_rng(0)
        target = stripes(rng)
        maps = {"one": speckled(target, rng)}
        at = write_run(tmp_path / "run", target, maps, groups=np.array(list(groups)), folds=folds)
        assert words in refusal(capsys, at)

    def test_maps_of_training_images_are_refused(self, tmp_path, capsys):
        rng = np.random.default_rng(0)
        target, saw = stripes(rng), TrainingIds((frozenset({"p03", "p04"}),))
        at = write_run(tmp_path / "run", target, {"one": speckled(target, rng)}, seen=saw)
        message = refusal(capsys, at)
        assert "tune-postproc would rely on 2 images that 'one' was trained on" in message

    @pytest.mark.parametrize(
        ("space", "words"),
        [
            ("blurr: {}", "unknown step 'blurr'"),
            ("blur: [1, 2]", "blur got [1, 2]; expected options such as remove_small"),
            ("blur: {sigma: 3}", "blur.sigma got 3; expected a list of choices or {low: "),
            ("blur: {sigma: [1, -1]}", "option 'sigma' got -1"),
            ("blur: {sigma: [[1, 2]]}", "blur.sigma: choice [1, 2]; expected a number or text"),
            ("blur: {sigma: {low: much, high: 2}}", "blur.sigma: 'low': a valid"),
            ("blur: {sigma: {low: 1, high: 2, wide: 3}}", "blur.sigma: 'wide': "),
            ("blur: {size: [1]}", "has no option 'size'"),
            ("crf: {iterations: {low: 9, high: 2}}", "low 9 is not below high 2"),
            ("[blur", "cannot be read as YAML"),
            ("", "names no step; expected lines such as remove_small"),
        ],
    )
    def test_a_bad_space_file_is_refused(self, planted, capsys, space, words):
        file = planted.path.parent / "space.yaml"
        file.write_text(space)
        message = refusal(capsys, planted, "--space", file)
        assert words in message
        assert str(file) in message

    @pytest.mark.parametrize(
        ("axes", "options", "words"),
        [
            (["blur.sigma=1,2"], [], "--chain, --image and --out go with --grid, given twice"),
            (["blur.sigma", "blur.sigma=1"], [], "expected STEP.OPTION=A,B,... such as crf."),
            (["blur.sigma=-1", "open.size=3"], [], "option 'sigma' got -1"),
            (["class_bias.floor=0.1", "open.size=3"], [], "learns; write the values it learned"),
            (AXES, ["--image", "px"], "no image 'px' in oof; known: p00, ..."),
            (AXES, ["--trials", "60"], "--trials is of a search, --grid of a drawing; give one"),
        ],
    )
    def test_a_bad_grid_is_refused(self, planted, capsys, axes, options, words, tmp_path):
        grid = [part for axis in axes for part in ("--grid", axis)]
        out = tmp_path / "grid.png"
        assert words in refusal(capsys, planted, "--out", out, *grid, *options)
        assert not out.exists()

    @pytest.mark.parametrize("name", ["grid.jpg", "there.png"])
    def test_a_grid_is_drawn_into_a_new_png_alone(self, planted, tmp_path, capsys, name):
        (tmp_path / "there.png").touch()
        grid = [part for axis in AXES for part in ("--grid", axis)]
        message = refusal(capsys, planted, *grid, "--out", tmp_path / name)
        assert "expected a new file that ends in .png" in message
        assert not (tmp_path / "grid.jpg").exists()
        assert (tmp_path / "there.png").stat().st_size == 0


def test_a_process_reuses_a_cache_that_is_sent_again(planted):
    split, _ = split_of(planted)
    sent = pickle.dumps(split.cache)
    first, again = pickle.loads(sent), pickle.loads(sent)
    assert again is first
    other, _ = split_of(planted)
    assert pickle.loads(pickle.dumps(other.cache)) is not first


class TestGridAxes:
    def test_an_axis_without_values_is_refused(self):
        with pytest.raises(BadSpec, match=r"--grid 'blur\.sigma=' names no value; expected crf"):
            grid.read_axis("blur.sigma=")

    def test_an_axis_of_a_step_outside_the_chain_is_refused(self):
        with pytest.raises(BadSpec, match=r"--grid blur\.sigma; --chain has no step 'blur'"):
            grid.with_options([Spec("open")], (grid.read_axis("blur.sigma=1,2"), 1))

    def test_an_axis_sets_its_option_alone(self):
        specs = [Spec("open", (), {"size": 3}), Spec("blur", (), {"sigma": 9, "mode": "flat"})]
        actual = grid.with_options(specs, (grid.read_axis("blur.sigma=1,2"), 2))
        assert actual[0] == specs[0]
        assert actual[1].options == {"sigma": 2, "mode": "flat"}


RESULT = TuningResult(
    run="run",
    name="t",
    of="mean",
    protocol="masked",
    images=12,
    groups=1,
    chain="",
    fitted="",
    steps=(),
    trials={"done": 4},
    plain=0.5,
    tuned=0.75,
    examined=0.625,
    optimism=0.125,
    examined_gain=Gain(0.125, None),
    classes_that_fall=(),
    folds=(),
)


class TestText:
    def test_one_group_has_no_interval(self):
        assert "examined gain       +0.1250  (no interval: one group)" in format_tuning(RESULT)

    def test_an_empty_chain_is_described(self):
        assert "chain: none; no step is shown to help" in format_tuning(RESULT)
        assert "classes that fall" not in format_tuning(RESULT)

    def test_classes_that_fall_are_named(self):
        text = format_tuning(replace(RESULT, classes_that_fall=("soil", "rock")))
        assert "  classes that fall   soil, rock" in text.splitlines()

    @pytest.mark.parametrize(
        ("kept", "falls", "why"),
        [
            (True, (), "kept"),
            (False, ("rock",), "dropped: rock falls"),
            (False, (), "dropped: not shown to help"),
        ],
    )
    def test_a_step_has_a_reason(self, kept, falls, why):
        step = AblationResult("blur", kept, falls, -0.25, Interval(-0.5, 0.0, 0.95))
        lines = format_tuning(replace(RESULT, steps=(step,))).splitlines()
        assert f"  -0.2500 (-0.5000 to +0.0000)  blur  {why}" in lines
