"""`ens search`: spaces, samplers, pruning, resuming, plots and results."""

import contextlib
import csv
import itertools
import json
import os
import pickle
import signal
import sqlite3
import subprocess
import sys
import time
from importlib import import_module
from pathlib import Path

import numpy as np
import optuna
import pytest
import yaml
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.pruners import BasePruner, MedianPruner
from optuna.storages import RDBStorage
from optuna.trial import TrialState
from sqlalchemy import Engine, event

from ensemble.cli import run_command as ens
from ensemble.pipeline.data.prepare import read_folds
from ensemble.pipeline.run.experiment import Experiment, read_experiment
from ensemble.pipeline.search import plots, recipe_search
from ensemble.pipeline.search import trials as trial_module
from ensemble.pipeline.search.held_out import searched_experiment
from ensemble.pipeline.search.plots import draw_importance
from ensemble.pipeline.search.recipe_search import SearchBudget, search
from ensemble.pipeline.search.space import apply_options, read_space
from ensemble.pipeline.search.study import (
    check_same_config,
    check_study,
    create_study,
    make_sampler,
    open_study,
    quiet,
    suggest,
)
from ensemble.pipeline.search.trials import TrialJob
from evaluation.core.errors import BadRun, BadSpec, EnsError
from evaluation.core.run_folder import Run
from members.data.sample import draw_sample
from members.job_progress import EpochReport
from members.jobs import run_parallel
from members.recipe import Recipe

TINY = "unet(width=2, depth=1)"
SPACE = f"""
recipe: {{architecture: "{TINY}", epochs: 2}}
space:
  architecture.width: [2, 3, 4, 5, 6]
  optimizer.lr: {{low: 1e-4, high: 1e-1, log: true}}
"""
FINITE = f"""
recipe: {{architecture: "{TINY}"}}
space: {{architecture.width: [2, 3, 4], batch: [2, 4, 6, 8]}}
"""
CLASSES = 5
DOCS = Path(__file__).parents[2] / "docs"


@pytest.fixture(scope="module")
def sample(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sample")
    return draw_sample(images=80, test=9, validation=40, size=(16, 24)).save(folder)


@pytest.fixture(autouse=True)
def no_waiting_for_the_disk():
    """Spare the tests what protects a search from a power cut."""

    def unsafe(connection, _):
        connection.execute("PRAGMA synchronous = OFF")

    event.listen(Engine, "connect", unsafe)
    yield
    event.remove(Engine, "connect", unsafe)


@pytest.fixture
def space(tmp_path):
    path = tmp_path / "space.yaml"
    path.write_text(SPACE)
    return path


@pytest.fixture(scope="module")
def whole():
    """Tables of searches that were not interrupted, by sampler."""
    return {}


@pytest.fixture
def fake(monkeypatch):
    """Put a score that the width decides in place of training: width 2 gives .2, and so on."""
    trained = []

    def counts(member, data, fold, *, seed, device, metric, watch=lambda _: None):
        width = int(member.recipe.architecture.split("width=")[1][0])
        trained.append((fold.index, width))
        if width == 6:
            raise EnsError("the loss became nan")
        for epoch in (1, 2):
            watch(EpochReport(epoch, 2, width / 10, 0.5, 8, 1.0))
        table = np.zeros((CLASSES, CLASSES), np.int64)
        table[1, 1], table[1, 0] = width, 10 - width
        return table

    monkeypatch.setattr(trial_module, "held_out_counts", counts)
    monkeypatch.setattr(recipe_search, "draw_history", lambda path, trials, metric: None)
    monkeypatch.setattr(recipe_search, "draw_importance", lambda path, study: (None, "none drawn"))
    return trained


def run_search(folder, space, sample, *, pruner=None, seed=0, **effort):
    run = Run(folder)
    data, validation = map(str, sample)
    experiment = searched_experiment(
        run, data=data, validation=validation, experiment=None, folds=2, seed=seed
    )
    asked = SearchBudget(**{"device": "cpu", "workers": 1, **effort})
    space = read_space(space, experiment.defaults)
    return search(run, experiment, space, asked, log=lambda line: None, pruner=pruner)


def table(folder):
    with (folder / "search" / "trials.csv").open() as file:
        return [{k: v for k, v in row.items() if k != "seconds"} for row in csv.DictReader(file)]


def refusal(capsys, *arguments):
    capsys.readouterr()
    assert ens([str(argument) for argument in arguments]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    (line,) = captured.err.splitlines()
    return line


class TestSpace:
    def test_space_of_the_docs_can_be_read(self):
        read = read_space(DOCS / "search-space.yaml", {})
        assert list(read.options) == [
            "architecture.width",
            "architecture.activation",
            "architecture.kernel_size",
            "architecture.depth",
            "architecture.dropout",
        ]

    @pytest.mark.parametrize(
        ("path", "value", "key", "expected"),
        [
            ("batch", 4, "batch", 4),
            ("architecture", "pan", "architecture", "pan"),
            ("architecture.width", 4, "architecture", "unet(width=4)"),
            ("optimizer.lr", 0.01, "optimizer", "adamw(lr=0.01)"),
            ("loss.focal.gamma", 3, "loss", "0.5*dice + 0.5*focal(gamma=3)"),
            ("loss.dice.weight", 0.25, "loss", "0.25*dice + 0.5*focal"),
            ("augment.flips.vertical", False, "augment", ("flips(vertical=False)", "cut_out")),
            ("augment", ["cut_out"], "augment", ("cut_out",)),
        ],
    )
    def test_an_option_is_set_by_its_path(self, path, value, key, expected):
        base = Recipe(loss="0.5*dice + 0.5*focal", augment=("flips", "cut_out"))
        assert getattr(apply_options(base, {path: value}), key) == expected

    def test_a_whole_key_is_set_before_an_option_inside_it(self):
        options = {"architecture.width": 3, "architecture": "pan"}
        assert apply_options(Recipe(), options).architecture == "pan(width=3)"

    def test_integer_ranges_and_choices_that_are_lists_are_read(self, tmp_path):
        path = tmp_path / "space.yaml"
        path.write_text(
            "space:\n  batch: {low: 4, high: 8, step: 2}\n  augment: [[flips], [flips, cut_out]]\n"
        )
        read = read_space(path, {})
        among = read.distributions()
        assert among["batch"] == IntDistribution(4, 8, step=2)
        assert isinstance(among["augment"], CategoricalDistribution)
        sampled = {"augment": among["augment"].choices[1]}
        assert read.decode(sampled) == {"augment": ["flips", "cut_out"]}

    @pytest.mark.parametrize(
        ("text", "words"),
        [
            ("recipe: {epochs: 2}", "`space` names no option"),
            ("space: {}", "`space` names no option"),
            ("[1]", "expected the keys recipe and space"),
            ("space: {batch: [2]}\nmembers: {}", "unknown key 'members'"),
            ("space: {width: [2]}", "a recipe has no key 'width'; known: architecture, loss"),
            ("space: {architecture.widht: [2]}", "has no option 'widht'; known: width"),
            ("space: {architecture.width: [2, 0]}", "option 'width' got 0"),
            ("space: {architecture.dropout: {low: 0, high: 1.5}}", "option 'dropout' got 1.5"),
            ("space: {architecture.width: []}", "expected a list of choices or {low"),
            ("space: {architecture.width: 4}", "expected a list of choices or {low"),
            ("space: {architecture.width: {low: 4}}", "'high': field required"),
            ("space: {architecture.width: {low: 4, high: 2}}", "low 4 is not below high 2"),
            ("space: {batch: {low: 4, high: 9, step: 2}}", "steps of 2 do not lead from 4 to 9"),
            ("space: {optimizer.lr: {low: 0, high: 1, log: true}}", "log goes with a low above 0"),
            ("space: {optimizer.lr: [.nan]}", "choice nan is not a finite number"),
            ("space: {batch: [4, 4]}", "choice 4 is duplicated"),
            ("space: {batch.size: [4]}", "batch.size names no option; expected KEY.OPTION"),
            ("space: {loss.dice.smooth: [1]}", "loss holds cross_entropy; expected 'dice' once"),
            ("space: {architecture: [unet, specialists(unet)]}", "is several networks"),
            ("recipe: {batch: 0}\nspace: {epochs: [2]}", "'batch' got 0"),
            ("recipe: {loss: no}\nspace: {epochs: [2]}", "unknown loss 'no'"),
            ("space: {batch: [", "cannot be read as YAML"),
        ],
    )
    def test_a_bad_space_file_is_refused_before_any_work(self, text, words, tmp_path, capsys):
        path = tmp_path / "space.yaml"
        path.write_text(text)
        line = refusal(capsys, "search", path, "--run", tmp_path / "run")
        assert line.startswith(f"ens: {path}")
        assert words in line
        assert not (tmp_path / "run").exists()

    def test_steps_of_a_range_are_rounded_to_decimals(self, tmp_path):
        path = tmp_path / "space.yaml"
        path.write_text("space: {architecture.dropout: {low: 0.0, high: 0.4, step: 0.1}}")
        read = read_space(path, {})
        assert read.decode({"architecture.dropout": 0.1 * 3}) == {"architecture.dropout": 0.3}

    def test_a_missing_space_file_is_refused(self, tmp_path, capsys):
        line = refusal(capsys, "search", tmp_path / "no.yaml", "--run", tmp_path / "run")
        assert "is missing; expected a space file" in line


class TestPlots:
    @pytest.mark.parametrize(
        ("trials", "reason"),
        [
            ([(0.1, 0.2, 0.3)], "importance needs two complete trials"),
            ([(0.1, 0.2, 0.3), (0.4, 0.2, 0.5)], "importance needs two options that vary"),
            ([(0.1, 0.2, 0.3), (0.4, 0.3, 0.3)], "all scores are the same"),
        ],
    )
    def test_importance_that_cannot_be_computed_is_skipped(self, trials, reason, tmp_path):
        assert draw_importance(tmp_path / "i.png", study_of(trials)) == (None, reason)
        assert not (tmp_path / "i.png").exists()

    def test_the_option_that_matters_has_the_larger_importance(self, tmp_path):
        draws = np.random.default_rng(0).random((30, 2))
        shares, reason = draw_importance(
            tmp_path / "i.png", study_of([(a, b, a + b / 10) for a, b in draws])
        )
        assert reason == ""
        assert shares["a"] > 0.8
        assert sum(shares.values()) == pytest.approx(1)
        assert (tmp_path / "i.png").read_bytes().startswith(b"\x89PNG")


def study_of(trials):
    """Make a study of options a and b, and a score."""
    study = optuna.create_study(direction="maximize")
    among = {"a": FloatDistribution(0, 1), "b": FloatDistribution(0, 1)}
    for a, b, score in trials:
        trial = optuna.create_trial(
            params={"a": float(a), "b": float(b)}, distributions=among, value=float(score)
        )
        study.add_trial(trial)
    return study


@pytest.fixture
def drawn_axes(monkeypatch, tmp_path):
    """Draw trials, and return the figure's axes."""
    figures = []
    monkeypatch.setattr(plots, "_save", lambda figure, path: figures.append(figure))

    def draw(*states_and_scores):
        trials = []
        for number, (state, score) in enumerate(states_and_scores):
            trial = optuna.create_trial(state=state, value=score)
            trial.number = number
            trials.append(trial)
        plots.draw_history(tmp_path / "history.png", trials)
        return figures[0].axes[0]

    return draw


def test_trials_without_a_score_are_marks_on_the_axis_of_the_history(drawn_axes):
    axes = drawn_axes(
        (TrialState.COMPLETE, 0.5),
        (TrialState.PRUNED, None),
        (TrialState.FAIL, None),
        (TrialState.COMPLETE, 0.25),
        (TrialState.COMPLETE, 0.75),
    )
    lines = {line.get_label(): line for line in axes.get_lines()}
    assert lines["complete"].get_xydata().tolist() == [[0, 0.5], [3, 0.25], [4, 0.75]]
    assert list(lines["highest so far"].get_ydata()) == [0.5, 0.5, 0.75]
    assert list(lines["pruned, no score"].get_xdata()) == [1]
    assert list(lines["failed, no score"].get_xdata()) == [2]
    assert lines["failed, no score"].get_transform() != axes.transData


def test_a_history_of_complete_trials_has_no_other_marks(drawn_axes):
    axes = drawn_axes((TrialState.COMPLETE, 0.5))
    labels = {line.get_label() for line in axes.get_lines()}
    assert labels == {"complete", "highest so far"}


class TestSamplers:
    @pytest.mark.parametrize("name", ["tpe", "gp", "random"])
    def test_samples_follow_from_number_seed_and_history(self, name):
        among = {"a": FloatDistribution(0, 1), "b": CategoricalDistribution([1, 2, 3])}
        studies = [optuna.create_study(direction="maximize") for _ in range(2)]
        once = make_sampler(name, among, 0)
        seen = set()
        # Twelve: TPE and GP begin to learn after ten.
        for number in range(12):
            sampled = []
            for study, looks in zip(studies, (once, make_sampler(name, among, 0)), strict=True):
                study.sampler = looks.for_trial(number)
                with quiet():
                    trial = study.ask()
                    sampled.append(suggest(trial, among))
                    study.tell(trial, sampled[-1]["a"] + sampled[-1]["b"])
            assert sampled[0] == sampled[1]
            seen.add(sampled[0]["a"])
        # A model may ask for the same end twice, the ten draws before it differ.
        assert len(seen) >= 10

    def test_a_resumed_search_equals_an_uninterrupted_one(self, space, sample, fake, tmp_path):
        run_search(tmp_path / "whole", space, sample, trials=4)
        for trials in (1, 4):
            run_search(tmp_path / "parts", space, sample, trials=trials)
        assert table(tmp_path / "parts") == table(tmp_path / "whole")
        assert len(table(tmp_path / "whole")) == 4

    @pytest.mark.parametrize("drawn", [1, 20, 21])
    @pytest.mark.parametrize("name", ["tpe", "gp", "random", "grid"])
    def test_a_search_killed_while_it_draws_options_goes_on_as_if_it_had_not_been(
        self, name, drawn, space, sample, fake, tmp_path, monkeypatch, whole
    ):
        space.write_text(FINITE if name == "grid" else SPACE)
        budget = {"trials": 12, "sampler": name}
        if name not in whole:
            run_search(tmp_path / "whole", space, sample, **budget)
            whole[name] = table(tmp_path / "whole")
        real, calls = RDBStorage.set_trial_param, itertools.count()

        def interrupted(*arguments):
            if next(calls) == drawn:
                raise KeyboardInterrupt
            return real(*arguments)

        with monkeypatch.context() as context:
            context.setattr(RDBStorage, "set_trial_param", interrupted)
            with pytest.raises(KeyboardInterrupt):
                run_search(tmp_path / "parts", space, sample, **budget)
        run_search(tmp_path / "parts", space, sample, **budget)
        assert table(tmp_path / "parts") == whole[name]
        if name == "grid":
            points = {(row["architecture.width"], row["batch"]) for row in whole[name]}
            assert len(points) == len(whole[name]) == 12

    def test_another_seed_gives_other_samples(self, space, sample, fake, tmp_path):
        for seed in (0, 1):
            run_search(tmp_path / str(seed), space, sample, trials=2, sampler="random", seed=seed)
        assert table(tmp_path / "0") != table(tmp_path / "1")

    def test_a_grid_search_visits_each_point_once(self, sample, fake, tmp_path):
        space = tmp_path / "space.yaml"
        space.write_text(
            f'recipe: {{architecture: "{TINY}"}}\nspace:\n  architecture.width: [2, 3]\n'
            "  architecture.dropout: {low: 0.0, high: 0.2, step: 0.1}\n  batch: [4, 8]\n"
        )
        run_search(tmp_path / "run", space, sample, trials=5, sampler="grid")
        run_search(tmp_path / "run", space, sample, trials=100, sampler="grid")
        paths = ["architecture.width", "architecture.dropout", "batch"]
        seen = [tuple(round(float(row[p]), 6) for p in paths) for row in table(tmp_path / "run")]
        assert len(seen) == 12
        assert set(seen) == set(itertools.product((2, 3), (0, 0.1, 0.2), (4, 8)))

    def test_a_grid_over_a_range_without_steps_is_refused(self, space, sample, tmp_path):
        with pytest.raises(BadSpec, match=r"optimizer\.lr: a grid needs a list of choices"):
            run_search(tmp_path / "run", space, sample, sampler="grid")

    def test_a_grid_of_too_many_points_is_refused(self):
        among = {f"o{n}": IntDistribution(0, 9) for n in range(6)}
        with pytest.raises(BadSpec, match="1000000 points; expected at most 100000"):
            make_sampler("grid", among, 0)


class PruneThree(BasePruner):
    """Stop width 3 after its first epoch."""

    def prune(self, study, trial):
        return trial.params["architecture.width"] == 3


class PruneAll(BasePruner):
    def prune(self, study, trial):
        return True


class TestTrials:
    @pytest.fixture
    def widths(self, tmp_path):
        path = tmp_path / "widths.yaml"
        choices = "[2, 3, 5, 6]"
        path.write_text(
            f'recipe: {{architecture: "{TINY}", epochs: 2}}\nspace:\n'
            f"  architecture.width: {choices}\n  batch: [16]\n"
        )
        return path

    def test_pruned_and_failed_trials_do_not_stop_the_search(self, widths, sample, fake, tmp_path):
        best = run_search(
            tmp_path, widths, sample, trials=9, sampler="grid", folds_used=2, pruner=PruneThree()
        )
        rows = {row["architecture.width"]: row for row in table(tmp_path)}
        assert {width: row["state"] for width, row in rows.items()} == {
            "2": "complete",
            "3": "pruned",
            "5": "complete",
            "6": "failed",
        }
        assert (rows["3"]["epochs"], rows["3"]["score"]) == ("1", "")
        assert rows["6"]["reason"] == "the loss became nan"
        assert (best.score, best.options["architecture.width"]) == (0.5, 5)
        assert best.trials == {"complete": 2, "pruned": 1, "failed": 1}
        # The second fold is only for those that came through the first.
        assert sorted(width for fold, width in fake if fold == 1) == [2, 5]

    def test_trials_below_the_median_are_pruned_by_default(self, sample, fake, tmp_path):
        space = tmp_path / "space.yaml"
        space.write_text(
            f'recipe: {{architecture: "{TINY}", epochs: 2}}\n'
            "space: {architecture.width: [2, 3, 4, 5], batch: [4, 5, 6]}\n"
        )
        run_search(tmp_path / "run", space, sample, trials=12, sampler="grid")
        rows = table(tmp_path / "run")
        assert {row["state"] for row in rows[:5]} == {"complete"}
        pruned = [row for row in rows if row["state"] == "pruned"]
        assert pruned
        assert {row["architecture.width"] for row in pruned} <= {"2", "3", "4"}

    def test_a_search_without_complete_trials_leaves_its_table(
        self, widths, sample, fake, tmp_path
    ):
        with pytest.raises(EnsError, match=r"no trial is complete: 1 failed .*nan.*3 were pru"):
            run_search(tmp_path, widths, sample, trials=4, sampler="grid", pruner=PruneAll())
        assert len(table(tmp_path)) == 4
        assert not (tmp_path / "search" / "best.yaml").exists()

    def test_interrupted_trials_are_repeated_under_their_number(
        self, space, sample, fake, tmp_path, monkeypatch
    ):
        run_search(tmp_path / "whole", space, sample, trials=4)
        real = trial_module.held_out_counts
        calls = []

        def interrupted(*arguments, **options):
            calls.append(1)
            if len(calls) == 3:
                options["watch"](EpochReport(1, 2, 0.9, 0.5, 8, 1.0))
                raise KeyboardInterrupt
            return real(*arguments, **options)

        monkeypatch.setattr(trial_module, "held_out_counts", interrupted)
        with pytest.raises(KeyboardInterrupt):
            run_search(tmp_path / "parts", space, sample, trials=4)
        run_search(tmp_path / "parts", space, sample, trials=4)
        assert table(tmp_path / "parts") == table(tmp_path / "whole")

    def test_a_trial_job_can_be_pickled(self, space, sample, fake, tmp_path):
        run_search(tmp_path, space, sample, trials=1)
        fold = read_folds(Run(tmp_path))[0]
        job = TrialJob(
            0,
            read_space(space, {}),
            {"architecture.width": 4, "optimizer.lr": 0.01},
            Run(tmp_path).data("oof"),
            (fold,),
            0,
            tmp_path / "search" / "study.sqlite",
            MedianPruner(),
        )
        assert pickle.loads(pickle.dumps(job))("cpu") == 0.4

    def test_a_finished_search_trains_nothing(self, space, sample, fake, tmp_path):
        run_search(tmp_path, space, sample, trials=3)
        fake.clear()
        assert sum(run_search(tmp_path, space, sample, trials=3).trials.values()) == 3
        assert fake == []

    def test_no_trial_starts_after_the_timeout(self, space, sample, fake, tmp_path):
        with pytest.raises(EnsError, match="no trial is complete: 0 failed, 0 were pruned"):
            run_search(tmp_path, space, sample, trials=3, timeout_seconds=-1.0)

    def test_trials_with_incomparable_losses_are_not_pruned(self, sample, fake, tmp_path):
        space = tmp_path / "space.yaml"
        space.write_text(
            f'recipe: {{architecture: "{TINY}", epochs: 2}}\n'
            "space: {architecture.width: [2, 3, 4, 5], monitor: [miou, loss]}\n"
        )
        run_search(tmp_path / "run", space, sample, trials=8, sampler="grid")
        assert {row["state"] for row in table(tmp_path / "run")} == {"complete"}


class TestResume:
    @pytest.mark.parametrize(
        "name",
        [
            "a%20b",
            "a?b",
            "a#b",
            "a b",
            "%",
            "a{SCHEMA_VERSION}",
            "{",
            "café",
            "a'b",
            "a;b&c=d",
            ":memory:",
            "file:x",
            "a@b:c",
        ],
    )
    def test_a_study_lies_in_the_run_that_was_named(self, name, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        path = Path(name) / "study.sqlite"
        create_study(path, {"recipe": {"epochs": 2}})
        check_study(path)
        check_same_config(path, {"recipe": {"epochs": 2}})
        with open_study(path) as opened, quiet():
            opened.study.ask()
        assert [str(file) for file in Path().rglob("*") if file.is_file()] == [str(path)]

    def test_another_space_is_refused_with_the_difference(self, space, sample, fake, tmp_path):
        run_search(tmp_path / "run", space, sample, trials=1)
        space.write_text(SPACE.replace("[2, 3, 4, 5, 6]", "[2, 3]"))
        before = (tmp_path / "run" / "search" / "study.sqlite").read_bytes()
        with pytest.raises(BadRun, match=r"another space: architecture\.width is .* there, \[2, 3"):
            run_search(tmp_path / "run", space, sample, trials=2)
        assert (tmp_path / "run" / "search" / "study.sqlite").read_bytes() == before

    def test_another_recipe_or_other_folds_are_refused(self, space, sample, fake, tmp_path):
        run_search(tmp_path / "run", space, sample, trials=1)
        with pytest.raises(BadRun, match="another search: folds used is 1 there, 2 here"):
            run_search(tmp_path / "run", space, sample, trials=2, folds_used=2)
        space.write_text(SPACE.replace("epochs: 2", "epochs: 3"))
        with pytest.raises(BadRun, match="another recipe: epochs is 2 there, 3 here"):
            run_search(tmp_path / "run", space, sample, trials=2)

    def test_other_data_are_refused(self, space, sample, fake, tmp_path):
        run_search(tmp_path / "run", space, sample, trials=1)
        other = draw_sample(images=81, test=9, validation=40, size=(16, 24)).save(tmp_path)
        with pytest.raises(BadRun, match="another data: data is"):
            run_search(tmp_path / "run", space, other, trials=2)

    def test_too_many_folds_are_refused(self, space, sample, tmp_path):
        with pytest.raises(BadSpec, match="--folds-used 3; there are 2 folds"):
            run_search(tmp_path / "run", space, sample, folds_used=3)

    @pytest.mark.parametrize("damage", ["cut", "text", "empty", "overwritten", "foreign"])
    def test_a_damaged_study_is_refused_and_not_changed(
        self, damage, space, sample, fake, tmp_path, capsys
    ):
        folder = tmp_path / "run"
        run_search(folder, space, sample, trials=1)
        file = folder / "search" / "study.sqlite"
        whole = file.read_bytes()
        if damage == "foreign":
            file.unlink()
            with sqlite3.connect(file) as other:
                other.execute("CREATE TABLE letters (text)")
            other.close()
        else:
            file.write_bytes(
                {
                    "cut": whole[: len(whole) // 2],
                    "text": b"not a database\n" * 100,
                    "empty": b"",
                    "overwritten": whole[:20000] + b"\xff" * 40000 + whole[60000:],
                }[damage]
            )
        before = file.read_bytes()
        line = refusal(capsys, "search", space, "--run", folder, "--trials", "2")
        assert f"{file} cannot be used as a study" in line
        assert "and was not changed" in line
        assert file.read_bytes() == before

    def test_a_locked_run_is_refused(self, space, sample, fake, tmp_path, capsys):
        from evaluation.core.run_folder import run_lock

        with run_lock(tmp_path / "run"):
            line = refusal(capsys, "search", space, "--run", tmp_path / "run")
        assert "is being written by another ens" in line


class TestCommand:
    @pytest.mark.slow
    def test_train_members_gets_the_same_score_from_the_best_experiment(
        self, space, sample, tmp_path, capsys
    ):
        data, validation = map(str, sample)
        folder = tmp_path / "run"
        arguments = ["search", space, "--run", folder, "--data", data, "--validation", validation]
        arguments += ["--folds", 2, "--folds-used", 2, "--trials", 2, "--workers", 1, "--json"]
        assert ens([str(argument) for argument in arguments]) == 0
        document = json.loads(capsys.readouterr().out)
        assert document["trials"] == {"complete": 2, "pruned": 0, "failed": 0}
        best = document["experiment"]
        assert read_experiment(Path(best)).members["best"] == document["best"]["recipe"]
        assert (folder / "search" / "history.png").read_bytes().startswith(b"\x89PNG")
        train = ["train-members", "--experiment", best, "--run", str(folder), "--workers", "1"]
        assert ens([*train, "--store-dtype", "float32"]) == 0
        assert ens(["score", "--run", str(folder), "--split", "oof", "--json"]) == 0
        captured = capsys.readouterr().out
        board = json.loads(captured[captured.index('{\n "split"') :])
        assert board["candidates"][0]["examined"] == pytest.approx(
            document["best"]["score"], abs=1e-12
        )

    def test_text_says_that_the_score_is_optimistic_and_names_the_next_command(
        self, space, sample, fake, tmp_path, capsys
    ):
        data, validation = map(str, sample)
        arguments = ["search", space, "--run", tmp_path, "--data", data, "--trials", 1]
        arguments += ["--validation", validation, "--workers", 1, "--folds", 2]
        assert ens([str(argument) for argument in arguments]) == 0
        captured = capsys.readouterr().out
        assert "This score is optimistic" in captured
        assert "no importance.png: none drawn" in captured
        best = tmp_path / "search" / "best.yaml"
        assert f"next: ens train-members --experiment {best} --run {tmp_path}\n" in captured

    def test_members_of_the_run_are_kept(self, space, sample, fake, tmp_path):
        (tmp_path / "experiment.yaml").write_text("members: {mine: {architecture: pan}}\nfolds: 2")
        run_search(tmp_path, space, sample, trials=1)
        assert set(read_experiment(tmp_path / "search" / "best.yaml").members) == {"mine", "best"}
        written = yaml.safe_load((tmp_path / "experiment.yaml").read_text())
        assert written["members"] == {"mine": {"architecture": "pan"}}


@pytest.mark.slow
class TestRunParallel:
    @pytest.fixture
    def jobs(self, tmp_path, monkeypatch):
        """Make jobs that worker processes can import."""
        (tmp_path / "searched_jobs.py").write_text(
            "import os, pathlib, time\n"
            "def fine(device): return device\n"
            "def dies(device): os._exit(3)\n"
            "def fails(device):\n"
            "    from evaluation.core.errors import EnsError\n"
            "    raise EnsError('so it is')\n"
            "def lasts(device):\n"
            "    pathlib.Path(f'{os.getpid()}.pid').touch()\n"
            "    time.sleep(300)\n"
        )
        monkeypatch.syspath_prepend(str(tmp_path))
        return import_module("searched_jobs")

    def test_a_process_that_dies_fails_no_other_job(self, jobs):
        work = [jobs.dies, jobs.fails, jobs.fine]
        ended = list(run_parallel(iter(work), ["cpu", "cpu"]))
        assert {job.__name__: str(outcome) for job, outcome in ended} == {
            "dies": "its process died, possibly out of memory",
            "fails": "so it is",
            "fine": "cpu",
        }
        assert len(ended) == 3

    @pytest.fixture
    def lasting(self, jobs, tmp_path):
        """A process, and the ids of two others that work for it and would for minutes."""
        work = (
            "from searched_jobs import lasts\n"
            "from members.jobs import run_parallel\n"
            "list(run_parallel(iter([lasts, lasts]), ['cpu', 'cpu']))\n"
        )
        before = signal.signal(signal.SIGINT, signal.SIG_DFL)
        process = subprocess.Popen(
            [sys.executable, "-c", work],
            cwd=tmp_path,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        signal.signal(signal.SIGINT, before)
        assert within(120, lambda: len(list(tmp_path.glob("*.pid"))) == 2)
        yield process, [int(path.stem) for path in tmp_path.glob("*.pid")]
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        process.stderr.close()

    def test_worker_processes_end_with_a_killed_parent(self, lasting):
        parent, others = lasting
        parent.kill()
        parent.wait()
        assert within(60, lambda: not any(map(alive, others)))

    def test_an_interrupted_parent_does_not_wait_for_its_workers(self, lasting):
        parent, others = lasting
        parent.send_signal(signal.SIGINT)
        assert within(60, lambda: parent.poll() is not None)
        assert not any(map(alive, others))


def within(seconds, condition):
    """Wait for a condition; tell whether it came true in time."""
    end = time.monotonic() + seconds
    while not condition() and time.monotonic() < end:
        time.sleep(0.05)
    return condition()


def alive(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def test_an_experiment_file_replaces_data_and_folds_and_keeps_the_runs_members(tmp_path):
    run, file = Run(tmp_path / "run"), tmp_path / "other.yaml"
    run.path.mkdir()
    Experiment(data="sample", members={"one": {}}, folds=3).write(run.experiment)
    file.write_text("data: other.npz\nfolds: 4\nseed: 5\nmembers: {two: {}}\n")
    given = {"data": None, "validation": None, "experiment": file, "folds": None}
    read = searched_experiment(run, **given, seed=7)
    assert (Path(read.data).name, read.folds, read.seed) == ("other.npz", 4, 7)
    assert list(read.members) == ["one"]
