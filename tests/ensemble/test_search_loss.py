"""`ens search-loss`: mixtures, the threshold, resuming, and results."""

import json
import math
import shlex
from math import comb

import numpy as np
import pytest

from ensemble.cli import run_command as ens
from ensemble.pipeline.search import loss_search
from ensemble.pipeline.search.held_out import searched_experiment
from ensemble.pipeline.search.loss_search import (
    Mixture,
    expand_mixtures,
    rank_mixtures,
    search_losses,
)
from evaluation.core.errors import EnsError
from evaluation.core.run_folder import Run
from members.data.sample import draw_sample
from members.losses import check_loss
from members.recipe import Recipe

TINY = '{architecture: "unet(width=2, depth=1)", epochs: 1}'
CLASSES = 5
# Tenths that each loss scores in fold 0; in fold 1 one more, and so on.
SCORES = {"dice": 5, "focal": 3, "cross_entropy": 1}


@pytest.fixture(scope="module")
def sample(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sample")
    return draw_sample(images=80, test=9, validation=40, size=(16, 24)).save(folder)


@pytest.fixture
def fake(monkeypatch):
    """Put a score that the loss and the fold decide in place of training."""
    trained = []

    def counts(member, data, fold, *, seed, device, metric):
        loss = member.recipe.loss
        trained.append((loss, fold.index))
        if loss == "lovasz":
            raise EnsError("the loss became nan")
        tenths = SCORES[loss] + fold.index
        table = np.zeros((CLASSES, CLASSES), np.int64)
        table[1, 1], table[1, 0] = tenths, 10 - tenths
        return table

    monkeypatch.setattr(loss_search, "held_out_counts", counts)
    return trained


def run_search(folder, sample, losses, threshold, folds=3):
    run = Run(folder)
    data, validation = map(str, sample)
    experiment = searched_experiment(
        run, data=data, validation=validation, experiment=None, folds=folds, seed=None
    )
    recipe = Recipe(architecture="unet(width=2, depth=1)")
    options = {"threshold": threshold, "device": "cpu", "workers": 1, "log": lambda line: None}
    result = search_losses(run, experiment, recipe, losses, **options)
    return {row.loss: row for row in result.rows}


def refusal(capsys, *arguments):
    capsys.readouterr()
    assert ens([str(argument) for argument in arguments]) == 2
    output = capsys.readouterr()
    assert output.out == ""
    (line,) = output.err.splitlines()
    return line


class TestMixtures:
    @pytest.mark.parametrize(("losses", "step"), [(2, 0.5), (3, 0.25), (3, 0.1), (2, 1 / 3)])
    def test_a_grid_holds_all_mixtures_whose_weights_sum_to_1(self, losses, step):
        names = ["dice", "focal(gamma=3)", "cross_entropy"][:losses]
        grid = expand_mixtures([], ",".join(names), step)
        parts = round(1 / step)
        assert len(set(grid)) == len(grid) == comb(parts + losses - 1, parts)
        for mixture in grid:
            check_loss(mixture)
            weights = [
                float(term.split("*")[0]) if "*" in term else 1.0 for term in mixture.split(" + ")
            ]
            assert sum(weights) == pytest.approx(1, abs=1e-5)

    def test_equal_mixtures_are_compared_once(self):
        assert expand_mixtures(["0.5*dice+0.5*focal", "1*dice"], "dice,focal", 0.5) == [
            "0.5*dice + 0.5*focal",
            "dice",
            "focal",
        ]

    @pytest.mark.parametrize(
        ("arguments", "words"),
        [
            ([], "no mixture; write --mixture"),
            (["--mixture", "-0.5*dice + 0.5*focal"], "weight -0.5 in"),
            (
                ["--mixture", "0.5*dice - 0.5*focal"],
                "has a negative weight; expected weights above 0",
            ),
            (["--mixture", "0*dice"], "weight 0 in"),
            (["--mixture", "0.5*dise"], "unknown loss 'dise'; known: boundary"),
            (["--mixture", "dice(smoth=1)"], "has no option 'smoth'"),
            (["--mixture", "((("], "cannot read"),
            (["--losses", "dice"], "expected two or more that differ"),
            (["--losses", "dice,dice"], "expected two or more that differ"),
            (["--losses", "dice,no"], "unknown loss 'no'"),
            (["--losses", "dice,3"], "cannot read spec '3'"),
            (["--losses", "dice,focal", "--step", "-0.5"], "step -0.5; expected a part of 1"),
            (["--losses", "dice,focal", "--step", "0.3"], "step 0.3; expected a part of 1"),
            (["--losses", "dice,focal,ssim,lovasz", "--step", "0.05"], "make 1771 mixtures"),
            (["--mixture", "dice", "--member", "unet(widht=3)"], "has no option 'widht'"),
            (["--mixture", "dice", "--member", "specialists(unet)"], "is several networks"),
        ],
    )
    def test_bad_mixtures_are_refused_before_any_work(self, arguments, words, tmp_path, capsys):
        line = refusal(capsys, "search-loss", *arguments, "--run", tmp_path / "run")
        assert words in line
        assert not (tmp_path / "run").exists()


class TestSearch:
    def test_a_mixture_below_the_threshold_stops_after_its_first_fold(self, sample, fake, tmp_path):
        by_loss = run_search(tmp_path, sample, list(SCORES), 0.3)
        assert by_loss["dice"].scores == pytest.approx([0.5, 0.6, 0.7])
        assert (by_loss["dice"].mean, by_loss["dice"].sd) == pytest.approx((0.6, 0.1))
        # Just at the threshold is not below it.
        assert by_loss["focal"].state == "complete"
        assert by_loss["cross_entropy"].scores == [pytest.approx(0.1), None, None]
        assert by_loss["cross_entropy"].state == "stopped after fold 0: .100 < .300"
        assert list(by_loss) == ["dice", "focal", "cross_entropy"]
        assert len(fake) == 7

    def test_a_lower_threshold_trains_only_what_is_missing(self, sample, fake, tmp_path):
        before = run_search(tmp_path, sample, ["dice", "focal"], 0.4)
        fake.clear()
        assert run_search(tmp_path, sample, ["dice", "focal"], 0.4) == before
        assert fake == []
        by_loss = run_search(tmp_path, sample, ["dice", "focal"], 0.2)
        assert fake == [("focal", 1), ("focal", 2)]
        assert by_loss["focal"].mean == pytest.approx(0.4)

    def test_other_data_are_trained_again(self, sample, fake, tmp_path):
        run_search(tmp_path, sample, ["dice"], 0.0)
        fake.clear()
        other = draw_sample(images=81, test=9, validation=40, size=(16, 24)).save(tmp_path)
        run_search(tmp_path, other, ["dice"], 0.0)
        assert len(fake) == 3

    def test_a_mixture_that_fails_does_not_stop_the_search(self, sample, fake, tmp_path):
        by_loss = run_search(tmp_path, sample, ["lovasz", "dice"], 0.0)
        assert by_loss["lovasz"].state == "failed: the loss became nan"
        assert list(by_loss) == ["dice", "lovasz"]

    def test_a_search_of_which_all_mixtures_fail_is_an_error(self, sample, fake, tmp_path):
        with pytest.raises(EnsError, match="no mixture could be trained; the first: the loss beca"):
            run_search(tmp_path, sample, ["lovasz"], 0.0)

    def test_a_fold_without_scored_pixels_gives_no_mean(self):
        (row,) = rank_mixtures([Mixture("dice", {0: 0.5, 1: math.nan})], 2, 0.3)
        assert (row.mean, row.state) == (None, "a fold without scored pixels")


class TestCommand:
    @pytest.mark.slow
    def test_train_members_takes_the_best_recipe(self, sample, tmp_path, capsys):
        data, validation = map(str, sample)
        arguments = ["search-loss", "--losses", "dice,focal(gamma=2)", "--step", "0.5"]
        arguments += ["--member", TINY, "--data", data, "--validation", validation]
        arguments += ["--folds", "2", "--workers", "1", "--run", str(tmp_path)]
        assert ens(arguments) == 0
        output = capsys.readouterr().out
        assert "is optimistic" in output
        assert ens([*arguments, "--json"]) == 0
        document = json.loads(capsys.readouterr().out)
        assert len(document["mixtures"]) == 3
        next_line = output.splitlines()[-1].removeprefix("next: ens ")
        assert ens([*shlex.split(next_line), "--workers", "1", "--store-dtype", "float32"]) == 0
        written = json.loads(
            (tmp_path / "members" / "best" / "fold-0" / "provenance.json").read_text()
        )
        asked = {key: document["best"][key] for key in written["asked"]["recipe"]}
        assert written["asked"]["recipe"] == asked
        assert document["best"]["loss"] == document["mixtures"][0]["loss"]

    def test_text_says_that_no_mixture_reached_the_threshold(self, sample, fake, tmp_path, capsys):
        data, validation = map(str, sample)
        arguments = ["search-loss", "--mixture", "focal", "--threshold", "0.9", "--data", data]
        arguments += ["--validation", validation, "--workers", "1", "--run", str(tmp_path)]
        assert ens(arguments) == 0
        output = capsys.readouterr().out
        assert "No mixture reached the threshold" in output
        assert "next:" not in output
        assert (
            (tmp_path / "search-loss" / "results.csv")
            .read_text()
            .splitlines()[1]
            .endswith("stopped after fold 0: .300 < .900")
        )
