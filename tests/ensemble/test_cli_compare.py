"""`ens compare`, as a user types it after `ens score`."""

import csv
import json
import math
import shutil
from dataclasses import replace

import numpy as np
import pytest
from safetensors.torch import save_file

from ensemble.cli import run_command
from ensemble.pipeline.analysis import detection
from ensemble.pipeline.analysis.inference_cost import CostMeter
from ensemble.pipeline.run.experiment import Experiment
from ensemble.pipeline.run.open_run import RunMembers, run_experiment
from evaluation.core.classes import MARS
from evaluation.core.files import write_json
from evaluation.core.provenance import record
from evaluation.core.ragged import Extent
from evaluation.core.run_folder import Run
from evaluation.scores import read_scores
from members.data.dataset import DataSet, write_classes
from members.network import NormalisedNetwork
from members.store import ProbabilityStore
from members.store_metadata import TrainingIds

SHAPE, IDS = (4, 6), tuple(f"p{place:02}" for place in range(60))
GROUPS = np.array([f"g{place // 2:02}" for place in range(60)])
FOLD = np.arange(60) // 2 % 2
ELSEWHERE = TrainingIds((frozenset({"somewhere else"}),))
OTHERS = tuple(frozenset(i for i, f in zip(IDS, FOLD, strict=True) if f != k) for k in (0, 1))
SEEN = {
    "oof": TrainingIds(OTHERS, tuple(FOLD.tolist())),
    "validation": ELSEWHERE,
    "test": ELSEWHERE,
}
NETWORK = "unet(width=2, depth=1)"
CHAIN = "suppress_background"
CHAINED = "mean_suppress_background"


def said(capsys, *arguments):
    capsys.readouterr()
    code = run_command([str(argument) for argument in arguments])
    told = capsys.readouterr()
    return code, told.out, told.err


def answer(capsys, *arguments):
    code, out, err = said(capsys, *arguments)
    assert code == 0, err
    return out


def compared(capsys, folder, *options):
    return json.loads(answer(capsys, "compare", "--run", folder, "--json", *options))


def by_name(board):
    return {row["name"]: row for row in board["candidates"]}


def write(folder, maps, seen):
    store = ProbabilityStore.create(
        folder, ids=IDS, classes=MARS, extent=Extent.uniform(len(IDS), SHAPE), seen=seen
    )
    store.write(slice(0, len(IDS)), maps)
    record(folder, config={}, inputs={})


def plant_member(at, name, targets, sharpness, rng):
    """Write a member's maps, the sharper the more often right, and the weights of both folds."""
    for split, target in targets.items():
        maps = np.eye(5, dtype=np.float32)[target].transpose(0, 3, 1, 2) * sharpness
        maps += rng.random(maps.shape, dtype=np.float32)
        write(at.probabilities(name, split), maps / maps.sum(axis=1, keepdims=True), SEEN[split])
    for fold in (0, 1):
        at.model(name, fold).mkdir(parents=True)
        network = NormalisedNetwork(NETWORK, channels=1, classes=5)
        save_file(network.state_dict(), at.model(name, fold) / "weights.safetensors")


def plant_run(at, sharpness, recipes):
    """Write a run of members, each as sharp as it says; return its folder."""
    rng = np.random.default_rng(0)
    images = rng.integers(0, 255, (len(IDS), 1, *SHAPE)).astype(np.uint8)
    targets = {s: rng.integers(0, 5, (len(IDS), *SHAPE)).astype(np.uint8) for s in SEEN}
    for split, target in targets.items():
        known = None if split == "test" else target
        DataSet(images, known, IDS, GROUPS, MARS).save(at.data(split))
    for name, sharp in sharpness.items():
        plant_member(at, name, targets, sharp, rng)
    write_classes(at.classes, MARS)
    write_json(at.folds, {"folds": 2, "fold": FOLD.tolist()})
    Experiment(data="sample", members=recipes).write(at.experiment)
    return at.path


@pytest.fixture(scope="module")
def planted(tmp_path_factory):
    at = Run(tmp_path_factory.mktemp("compare") / "run")
    sharpness = {"one": 0.5, "two": 0.6}
    return plant_run(at, sharpness, {name: {"architecture": NETWORK} for name in sharpness})


@pytest.fixture(scope="module")
def repeated(tmp_path_factory):
    """A scored run with two trainings of each of two recipes, and one of a third."""
    at = Run(tmp_path_factory.mktemp("recipes") / "run")
    recipes = {
        "a": {"architecture": NETWORK, "repeats": 2},
        "b": {"architecture": NETWORK, "epochs": 3, "repeats": 2},
        "lone": {"architecture": NETWORK},
    }
    sharpness = {"a-1": 0.5, "a-2": 0.52, "b-1": 0.7, "b-2": 0.72, "lone": 0.5}
    path = plant_run(at, sharpness, recipes)
    assert run_command(["score", "--run", str(path)]) == 0
    return path


@pytest.fixture(scope="module")
def scored(planted):
    at = ["--run", str(planted)]
    assert run_command(["fuse", "--strategy", "mean", *at]) == 0
    assert (
        run_command(["fuse", "--strategy", "weighted_mean(weights=[1, 0])", "--name", "lone", *at])
        == 0
    )
    assert run_command(["postprocess", "--fusion", "mean", "--chain", CHAIN, *at]) == 0
    assert run_command(["score", *at]) == 0
    assert run_command(["compare", *at]) == 0  # measures the costs
    return planted


@pytest.fixture
def copy(scored, tmp_path):
    shutil.copytree(scored, tmp_path / "copy")
    return tmp_path / "copy"


class TestCompare:
    def test_ranks_all_that_is_scored_with_gaps_to_the_first(self, scored, capsys):
        board = compared(capsys, scored)
        rows = board["candidates"]
        assert {row["name"] for row in rows} == {
            *("one_argmax", "two_argmax", "mean_argmax", "lone_argmax", CHAINED)
        }
        scores = [row["examined"] for row in rows]
        assert scores == sorted(scores, reverse=True)
        assert rows[0]["gap"] is None
        for row in rows[1:]:
            assert row["gap"]["value"] == pytest.approx(row["examined"] - scores[0])
            assert 0 < row["gap"]["p"] <= 1

    def test_reports_the_same_scores_as_score(self, scored, capsys):
        board = compared(capsys, scored)
        again = json.loads(answer(capsys, "score", "--run", scored, "--json"))
        keys = ("examined", "interval", "gain_interval", "iou", "others", "chosen")
        for name, row in by_name(again).items():
            assert {key: by_name(board)[name][key] for key in keys} == {k: row[k] for k in keys}

    def test_a_fusion_costs_its_members_and_itself(self, scored, capsys):
        rows = by_name(compared(capsys, scored))
        assert rows["mean_argmax"]["members"] == ["one", "two"]
        members = [rows[f"{name}_argmax"]["milliseconds"] for name in ("one", "two")]
        kept = json.loads((scored / "costs.json").read_text())
        alone = [kept[f"member {name}"]["milliseconds"] for name in ("one", "two")]
        assert all(whole > part > 0 for whole, part in zip(members, alone, strict=True))
        fusing = kept["fusion mean"]["milliseconds"]
        chain = kept[f"chain of {CHAINED}"]["milliseconds"]
        assert rows[CHAINED]["milliseconds"] == pytest.approx(sum(alone) + fusing + chain)

    def test_a_member_without_weight_is_not_needed(self, scored, capsys):
        row = by_name(compared(capsys, scored))["lone_argmax"]
        assert row["members"] == ["one"]

    def test_costs_are_measured_once_and_then_kept(self, scored, capsys):
        before = (scored / "costs.json").read_bytes()
        code, _, err = said(capsys, "compare", "--run", scored)
        assert code == 0
        assert "ms/image" not in err
        assert (scored / "costs.json").read_bytes() == before

    def test_a_part_that_changed_is_measured_again(self, copy, capsys):
        file = copy / "costs.json"
        kept = json.loads(file.read_text())
        kept["fusion mean"]["of"] = "of something else"
        file.write_text(json.dumps(kept))
        _, _, err = said(capsys, "compare", "--run", copy)
        costs = [line for line in err.splitlines() if "ms/image" in line]
        assert [line.split(":")[0] for line in costs] == ["fusion mean"]

    def test_a_member_without_weights_has_unknown_cost_and_so_has_its_fusion(self, copy, capsys):
        (copy / "costs.json").unlink()
        (copy / "members" / "two" / "fold-0" / "weights.safetensors").unlink()
        rows = by_name(compared(capsys, copy))
        assert rows["two_argmax"]["milliseconds"] is rows["mean_argmax"]["milliseconds"] is None
        assert rows["one_argmax"]["milliseconds"] > 0
        assert not rows["mean_argmax"]["front"]

    def test_writes_the_table_that_it_prints(self, scored, capsys, tmp_path):
        board = compared(capsys, scored, "--csv", tmp_path / "board.csv")
        with (tmp_path / "board.csv").open() as file:
            rows = list(csv.DictReader(file))
        assert [row["name"] for row in rows] == [row["name"] for row in board["candidates"]]
        assert [float(row["validation"]) for row in rows] == pytest.approx(
            [row["examined"] for row in board["candidates"]]
        )
        assert rows[0]["p"] == ""

    def test_the_text_names_the_first_and_what_to_do_next(self, scored, capsys):
        lines = answer(capsys, "compare", "--run", scored).splitlines()
        assert lines[2].split()[-1] != "first"
        assert "first" in lines[2]
        assert all("may be best" in line or "lower" in line for line in lines[3:7])
        assert lines[-1].startswith("next: ens submit --run ")

    def test_a_margin_says_which_candidates_are_not_worse(self, scored, capsys):
        board = compared(capsys, scored, "--margin", "0.2", "--to", CHAINED)
        assert board["margin"]["to"] == CHAINED
        assert {row["name"] for row in board["margin"]["candidates"]} == {
            row["name"] for row in board["candidates"]
        } - {CHAINED}

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            (("--margin", "-0.1"), "-0.1 is not in the range"),
            (("--to", CHAINED), "--to needs --margin"),
            (("--margin", "0.1", "--to", "none"), "unknown candidate 'none'"),
        ],
    )
    def test_a_margin_that_cannot_be_compared_is_refused(self, scored, capsys, options, message):
        assert run_command(["compare", "--run", str(scored), *options]) == 2
        assert message in capsys.readouterr().err

    def test_a_plan_says_how_many_groups_show_a_gap(self, scored, capsys):
        plan = json.loads(answer(capsys, "plan", "--detect", "0.01", "--run", scored, "--json"))
        assert plan["alone"]["low"] < plan["alone"]["groups"] < plan["alone"]["high"]
        assert plan["alone"]["groups"] <= plan["among_all"]["groups"]
        text = answer(capsys, "plan", "--detect", "0.01", "--run", scored)
        assert f"between {' and '.join(plan['candidates'])} with power 0.8" in text
        assert f"{plan['alone']['groups']} (" in text

    def test_a_plan_needs_candidates_that_differ_in_two_groups(self, copy, capsys, monkeypatch):
        words = ["plan", "--detect", "0.01", "--run", copy]
        assert said(capsys, *words, "x.yaml")[2].startswith("ens: --detect takes a scored run, not")
        for name, changes, message in (
            ("one", {"groups": np.zeros(60, int)}, "oof has no two groups with scored pixels, so"),
            ("all", None, "no candidate differs from "),
        ):
            first = detection.read_scores(Run(copy).scores("one_argmax"), "oof")[1]

            def read(folder, split, changes=changes, first=first):
                document, own = read_scores(folder, split)
                return document, first if changes is None else replace(own, **changes)

            monkeypatch.setattr(detection, "read_scores", read)
            code, _, err = said(capsys, *words)
            assert (code, name) == (2, name)
            assert message in err
            monkeypatch.undo()

    def test_a_cost_that_cannot_be_measured_is_said_and_is_no_number(self, copy, capsys):
        """The members' time is known, that of a fusion whose fitted state is gone is not."""
        (copy / "costs.json").unlink()
        shutil.rmtree(copy / "fused" / "mean")
        run_members = RunMembers.of(Run(copy))
        told = []
        meter = CostMeter(run_members, run_experiment(Run(copy)), "validation", told.append)
        cost = meter.measure(CHAINED)
        assert cost.members == ("one", "two")
        assert math.isnan(cost.milliseconds)
        assert any(line.startswith("fusion mean: cost not measured, ") for line in told)
        assert meter.measure("one_argmax").milliseconds > 0

    @pytest.mark.parametrize("protocol", ["keras", "per_image"])
    def test_any_protocol_can_decide(self, scored, capsys, protocol):
        board = compared(capsys, scored, "--protocol", protocol)
        masked = by_name(compared(capsys, scored))
        assert board["protocol"] == protocol
        for row in board["candidates"]:
            assert row["examined"] == pytest.approx(masked[row["name"]]["others"][protocol])
            assert row["interval"]["low"] <= row["examined"] <= row["interval"]["high"]

    def test_stale_scores_are_left_out_by_name(self, copy, capsys):
        record = copy / "labels" / "two_argmax" / "validation" / "provenance.json"
        document = json.loads(record.read_text())
        document["inputs"]["maps"] = "others"
        record.write_text(json.dumps(document))
        code, out, err = said(capsys, "compare", "--run", copy, "--json")
        assert code == 0
        assert "two_argmax" not in by_name(json.loads(out))
        assert "left out, scored before something changed: two_argmax; run `ens score`" in err


class TestRefuses:
    @pytest.mark.parametrize(
        ("options", "words"),
        [
            (["--split", "exam"], "no split 'exam' in"),
            (["--protocol", "mask"], "unknown protocol 'mask'; known: dice, foreground"),
            (["--split", "test"], "has current scores on 'test'; run `ens score --run"),
        ],
    )
    def test_in_one_line_before_any_work(self, scored, capsys, options, words):
        code, out, err = said(capsys, "compare", "--run", scored, *options)
        assert (code, out, err.count("\n")) == (2, "", 1)
        assert words in err

    def test_a_run_that_is_not_scored_yet(self, copy, capsys):
        shutil.rmtree(copy / "scores")
        code, _, err = said(capsys, "compare", "--run", copy)
        assert code == 2
        assert f"no candidate of {copy} has current scores on 'validation'" in err


class TestRecipes:
    def test_the_difference_is_that_of_the_mean_scores_of_the_trainings(self, repeated, capsys):
        rows = by_name(compared(capsys, repeated))
        document = compared(capsys, repeated, "--recipes", "b,a")
        means = [np.mean([rows[f"{name}-{k}_argmax"]["examined"] for k in (1, 2)]) for name in "ba"]
        assert document["difference"] == pytest.approx(means[0] - means[1])
        assert document["interval"]["low"] < document["difference"] < document["interval"]["high"]
        assert document["trainings"] == [2, 2]
        text = answer(capsys, "compare", "--run", repeated, "--recipes", "b,a")
        assert text.startswith("b minus a, masked mIoU: +")
        assert "such intervals held the true difference in" in text

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            (("--recipes", "a,lone"), "recipe 'lone' has one training; expected two or more"),
            (("--recipes", "a,c"), "unknown recipe 'c'; known: a, b, lone"),
            (("--recipes", "a,a"), "expected two names of recipes"),
            (("--recipes", "a,b", "--split", "test"), "no current scores of a-1_argmax"),
            (("--recipes", "a,b", "--margin", "0.1"), "takes neither --margin nor --csv"),
        ],
    )
    def test_recipes_that_cannot_be_compared_are_refused(self, repeated, capsys, options, message):
        assert run_command(["compare", "--run", str(repeated), *options]) == 2
        assert message in capsys.readouterr().err
