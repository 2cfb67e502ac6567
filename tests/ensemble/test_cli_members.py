"""`ens members`, `ens members uncertainty` and `ens members list`, as a user types them."""

import csv
import json
from dataclasses import replace
from xml.etree import ElementTree

import numpy as np
import pytest
from PIL import Image
from safetensors.torch import save_file
from scipy.stats import spearmanr

from ensemble.cli import run_command
from ensemble.pipeline.analysis.worth import (
    PruningAdvice,
    RemovedMember,
    ValidatedChange,
    format_advice,
)
from ensemble.pipeline.run.experiment import Experiment
from ensemble.pipeline.run.open_run import RunMembers
from evaluation.confusion import confusion
from evaluation.core.blocks import blocks
from evaluation.core.classes import MARS, UNLABELLED
from evaluation.core.provenance import record
from evaluation.core.ragged import Extent
from evaluation.core.run_folder import Run
from evaluation.protocols import masked
from members import model_costs
from members.architectures import ARCHITECTURES
from members.data.dataset import DataSet, write_classes
from members.network import NormalisedNetwork
from members.store import ProbabilityStore
from members.store_metadata import TrainingIds

COUNT, SHAPE = 70, (4, 6)  # one whole block and a part
IDS = tuple(f"p{place:02}" for place in range(COUNT))
NETWORK = "unet(width=2, depth=1)"
SHARPNESS = {"good": 0.6, "fair": 0.58, "noise": 0.0}
UNSURE = 7
"""An image on which the members are sure of different classes."""


def invoke(capsys, *arguments):
    capsys.readouterr()
    code = run_command(["members", *map(str, arguments)])
    message = capsys.readouterr()
    return code, message.out, message.err


def answer(capsys, *arguments):
    code, out, err = invoke(capsys, *arguments)
    assert code == 0, err
    return out


def refusal(capsys, *arguments):
    code, out, err = invoke(capsys, *arguments)
    assert (code, out, err.count("\n")) == (2, "", 1), err
    return err


def write(folder, maps, *, ids=IDS, seen=None, label=None):
    kind = "probabilities" if label is None else "one_vs_rest"
    store = ProbabilityStore.create(
        folder,
        ids=ids,
        classes=MARS,
        extent=Extent.uniform(len(ids), SHAPE),
        seen=seen,
        kind=kind,
        label=label,
    )
    for block in blocks(len(ids)):
        store.write(block, maps[block])
    record(folder, config={}, inputs={})


def maps_of(target, sharpness, seed):
    """Draw maps that are right the more often the sharper."""
    rng = np.random.default_rng(seed)
    maps = np.eye(5, dtype=np.float32)[target].transpose(0, 3, 1, 2) * sharpness
    maps += rng.random(maps.shape, dtype=np.float32)
    maps[UNSURE] = np.eye(5, dtype=np.float32)[1 + seed % 2][:, None, None]
    return maps / maps.sum(axis=1, keepdims=True)


def write_weights(run_folder, name, logits=5):
    folder = run_folder.model(name, 0)
    folder.mkdir(parents=True)
    network = NormalisedNetwork(NETWORK, channels=1, classes=logits)
    save_file(network.state_dict(), folder / "weights.safetensors")
    return sum(parameter.numel() for parameter in network.parameters())


OUT_OF_FOLD = TrainingIds((frozenset(IDS[35:]), frozenset(IDS[:35])), (0,) * 35 + (1,) * 35)
ELSEWHERE = TrainingIds((frozenset({"somewhere else"}),))


def write_run(path, sharpness, *, seen=OUT_OF_FOLD):
    """Write a run with members on oof and validation, and an unlabelled test split."""
    run_folder, rng = Run(path), np.random.default_rng(5)
    groups = np.array([f"g{place // 2}" for place in range(COUNT)])
    images = rng.integers(0, 255, (COUNT, 1, *SHAPE)).astype(np.uint8)
    for split in ("oof", "validation", "test"):
        target = rng.integers(1, 5, (COUNT, *SHAPE)).astype(np.uint8)
        target[:, 0] = 0
        target[:, 1, 0] = UNLABELLED
        known = None if split == "test" else target
        DataSet(images, known, IDS, groups, MARS).save(run_folder.data(split))
        for seed, (name, sharp) in enumerate(sharpness.items()):
            maps = maps_of(np.where(target == UNLABELLED, 1, target), sharp, seed)
            folder = run_folder.probabilities(name, split)
            write(folder, maps, seen=seen if split == "oof" else ELSEWHERE)
    write_classes(run_folder.classes, MARS)
    recipes = {name: {"architecture": NETWORK} for name in sharpness}
    Experiment(data="sample", members=recipes).write(run_folder.experiment)
    return path


@pytest.fixture(scope="module")
def three(tmp_path_factory):
    path = write_run(tmp_path_factory.mktemp("three") / "run", SHARPNESS)
    for name in ("good", "fair"):
        write_weights(Run(path), name)
    return path


class TestMembers:
    def test_a_noise_member_has_the_least_worth_and_is_dropped(self, three, capsys):
        result = json.loads(answer(capsys, "--run", three, "--json"))
        assert [row["name"] for row in result["members"]] == ["good", "fair", "noise"]
        noise = result["members"][-1]
        assert noise["leave_one_out"]["change"] < 0
        assert noise["leave_one_out"]["interval"]["low"] < noise["leave_one_out"]["change"]
        advice = result["advice"]
        assert advice["drop"] == ["noise"]
        assert advice["keep"] == ["good", "fair"]
        assert advice["steps"][0]["change"] == -noise["leave_one_out"]["change"]
        assert advice["refused"]["dropped"] == "fair"
        assert advice["examined"]["split"] == "validation"
        assert advice["examined"]["change"] > 0
        assert advice["examined"]["change"] != advice["steps"][0]["change"]

    def test_scores_are_those_of_the_label_maps_and_shapley_values_add_up(self, three, capsys):
        result = json.loads(answer(capsys, "--run", three, "--json"))
        target = DataSet.load(Run(three).data("oof")).target()
        stores = [ProbabilityStore(Run(three).probabilities(n, "oof")) for n in SHARPNESS]
        maps = [store.read(slice(None)) for store in stores]
        rows = {row["name"]: row for row in result["members"]}
        together = sum(maps[1:], start=maps[0])
        for row, scores in [(result, together), *zip(map(rows.get, SHARPNESS), maps, strict=True)]:
            pred = scores.argmax(axis=1).astype(np.uint8)
            expected = masked()(confusion(target, pred, classes=5).sum(axis=0), 0)
            assert row["miou"] == pytest.approx(float(expected.miou))
            assert row["iou"]["sand"] == pytest.approx(expected.iou[3])
        total = sum(row["shapley"]["value"] for row in result["members"])
        assert total == pytest.approx(result["miou"])
        assert result["circles"] is None
        assert result["images"] == COUNT
        assert result["groups"] == COUNT // 2

    def test_costs_are_those_of_existing_networks(self, three, capsys):
        result = json.loads(answer(capsys, "--run", three, "--json"))
        good, fair, noise = result["members"]
        network = NormalisedNetwork(NETWORK, channels=1, classes=5)
        assert good["parameters"] == sum(p.numel() for p in network.parameters())
        assert good["milliseconds"] > 0
        assert fair["parameters"] == good["parameters"]
        assert noise["milliseconds"] is noise["parameters"] is None
        assert noise["bytes"] > 3 * COUNT * 5 * 4 * 6 * 2  # three splits in float16
        assert result["advice"]["time_saved"] is None

    def test_pair_measures_are_symmetric(self, three, capsys):
        pairs = json.loads(answer(capsys, "--run", three, "--json"))["pairs"]
        assert pairs["members"] == list(SHARPNESS)
        for name in pairs.keys() - {"members"}:
            np.testing.assert_allclose(pairs[name], np.transpose(pairs[name]))
        assert pairs["disagreement"][0][1] < pairs["disagreement"][0][2]

    def test_growth_ends_with_the_score_of_all(self, three, capsys):
        result = json.loads(answer(capsys, "--run", three, "--json"))
        one, *_, every = result["growth"]
        assert one["gain"] is None
        assert one["miou"] == pytest.approx(np.mean([row["miou"] for row in result["members"]]))
        assert (every["members"], every["miou"]) == (3, pytest.approx(result["miou"]))
        assert "one more gained" in answer(capsys, "--run", three)

    def test_growth_is_drawn_with_a_point_per_size(self, three, tmp_path, capsys):
        file = tmp_path / "growth.svg"
        answer(capsys, "--run", three, "--growth", file)
        drawing = ElementTree.parse(file).getroot()
        assert drawing.tag.endswith("svg")
        assert {"1", "2", "3"} <= {"".join(text.itertext()).strip() for text in drawing.iter()}

    def test_text_fits_100_columns_and_ends_with_advice(self, three, capsys):
        text = answer(capsys, "--run", three)
        lines = text.splitlines()
        assert max(map(len, lines[:-1])) <= 100
        assert lines[0] == "3 members on oof: 70 images, 35 groups; masked mIoU"
        assert lines[-2].startswith("drop noise (1 of 3): oof +.") or "oof +0." in lines[-2]
        assert lines[-2].endswith("time not known")
        wanted = f"next: ens fuse --run {three} --strategy mean --members good,fair --name kept"
        assert lines[-1] == wanted

    def test_advice_from_validation_is_not_evaluated_on_validation(self, three, capsys):
        result = json.loads(answer(capsys, "--run", three, "--split", "validation", "--json"))
        assert result["split"] == "validation"
        assert result["advice"]["drop"] == ["noise"]
        assert result["advice"]["examined"] is None

    def test_many_members_get_sampled_shapley_values(self, three, capsys, monkeypatch):
        monkeypatch.setattr("ensemble.diversity.member_worth.EXACT_MEMBERS", 2)
        result = json.loads(answer(capsys, "--run", three, "--circles", 3, "--json"))
        assert result["circles"] == 3
        total = sum(row["shapley"]["value"] for row in result["members"])
        assert total == pytest.approx(result["miou"])
        text = answer(capsys, "--run", three, "--circles", 3)
        assert "Shapley values: 3 sampled permutations, standard error 0." in text

    def test_without_tolerance_only_useless_members_are_dropped(self, three, capsys):
        strict = json.loads(answer(capsys, "--run", three, "--tolerance", 0, "--json"))
        lax = json.loads(answer(capsys, "--run", three, "--tolerance", 1, "--json"))
        assert strict["advice"]["drop"] == ["noise"]
        assert strict["advice"]["refused"]["change"] < 0
        assert len(lax["advice"]["drop"]) >= 1

    def test_a_specialist_family_counts_as_one_member(self, tmp_path, capsys):
        path = write_run(tmp_path / "run", {"good": 0.6})
        run_folder = Run(path)
        recipes = {
            "good": {"architecture": NETWORK},
            "five": {"architecture": f"specialists({NETWORK})"},
        }
        Experiment(data="sample", members=recipes).write(run_folder.experiment)
        good = ProbabilityStore(run_folder.probabilities("good", "oof")).read(slice(None))
        parts = [member for member in RunMembers.of(run_folder).members if member.family]
        for member in parts:
            assert member.label is not None
            one = good[:, member.label : member.label + 1]
            folder = run_folder.probabilities(member.name, "oof")
            write(folder, one, seen=OUT_OF_FOLD, label=member.label)
        single = [write_weights(run_folder, member.name, logits=2) for member in parts]
        result = json.loads(answer(capsys, "--run", path, "--json"))
        rows = {row["name"]: row for row in result["members"]}
        assert set(rows) == {"good", "five"}
        assert rows["five"]["miou"] == pytest.approx(rows["good"]["miou"], abs=0.01)
        assert rows["five"]["parameters"] == sum(single)
        assert result["pairs"]["correlation"][0][1] > 0.95

    def test_options_before_a_subcommand_are_refused(self, three, capsys):
        assert "List every architecture" in answer(capsys, "list", "--help")
        code, _, err = invoke(capsys, "--run", three, "list")
        assert code == 2
        assert "give options after 'list'" in err


class TestRefusals:
    @pytest.mark.parametrize(
        ("split", "words"),
        [
            ("valid", "no split 'valid' in {}; known: oof, validation, test"),
            ("test", "split 'test' has no target to score by"),
        ],
    )
    def test_a_split_that_cannot_be_scored_is_refused(self, three, capsys, split, words):
        assert words.format(three) in refusal(capsys, "--run", three, "--split", split)

    def test_a_single_member_is_refused(self, tmp_path, capsys):
        path = write_run(tmp_path / "run", {"good": 0.6})
        message = refusal(capsys, "--run", path)
        assert "has 1 member with maps of oof; expected two or more" in message

    def test_a_split_without_scored_pixels_is_refused(self, tmp_path, capsys):
        path = write_run(tmp_path / "run", {"good": 0.6, "fair": 0.5})
        data = DataSet.load(Run(path).data("oof"))
        replace(data, masks=np.zeros_like(data.target())).save(Run(path).data("oof"))
        assert "has no scored pixel" in refusal(capsys, "--run", path)

    def test_maps_of_training_images_are_refused(self, tmp_path, capsys):
        leaky = TrainingIds((frozenset(IDS[:3]),))
        path = write_run(tmp_path / "run", {"good": 0.6, "fair": 0.5}, seen=leaky)
        assert "would rely on 3 images that 'good' was trained on" in refusal(capsys, "--run", path)

    def test_a_leak_on_validation_costs_only_the_evaluation_of_the_advice(self, tmp_path, capsys):
        path = write_run(tmp_path / "run", SHARPNESS)
        store = ProbabilityStore(Run(path).probabilities("good", "validation"))
        write(store.folder, store.read(slice(None)), seen=TrainingIds((frozenset(IDS[:3]),)))
        code, out, err = invoke(capsys, "--run", path, "--json")
        assert code == 0
        assert json.loads(out)["advice"]["drop"] == ["noise"]
        assert json.loads(out)["advice"]["examined"] is None
        assert "would rely on 3 images that 'good' was trained on" in err

    def test_maps_of_other_images_are_refused(self, tmp_path, capsys):
        path = write_run(tmp_path / "run", {"good": 0.6, "fair": 0.5})
        store = ProbabilityStore(Run(path).probabilities("fair", "oof"))
        maps, ids = store.read(slice(None)), ("other", *IDS[1:])
        write(store.folder, maps, ids=ids, seen=OUT_OF_FOLD)
        assert "'fair': maps were made for other images than split 'oof'" in refusal(
            capsys, "--run", path
        )

    def test_members_left_out_or_undeclared_are_logged(self, tmp_path, capsys):
        path = write_run(tmp_path / "run", {"good": 0.6, "fair": 0.5, "late": 0.5}, seen=None)
        (Run(path).probabilities("late", "oof") / "provenance.json").unlink()
        code, _, err = invoke(capsys, "--run", path)
        assert code == 0
        assert "late: left out, no maps of oof" in err
        assert "good: does not declare what it was trained on" in err


STEP = RemovedMember(change=-0.00123, interval=None, half_width=0.002, dropped="pan")
ADVICE = PruningAdvice(["p", "b"], ["c"], 0.5, [STEP], replace(STEP, dropped="c"))


@pytest.mark.parametrize(
    ("advice", "line"),
    [
        (ADVICE, "drop p, b (2 of 9): oof -0.001 +- 0.002 and 50% less time"),
        (
            replace(
                ADVICE,
                examined=ValidatedChange(
                    change=0.003, interval=None, half_width=0.004, split="validation"
                ),
            ),
            "drop p, b (2 of 9): oof -0.001 +- 0.002, validation +0.003 +- 0.004 and 50% less time",
        ),
        (
            replace(ADVICE, drop=[], steps=[]),
            "drop none: oof -0.0012 +- 0.0020 without c; 0.002 within noise is tolerated",
        ),
    ],
)
def test_advice_is_one_line(advice, line):
    assert format_advice(advice, split="oof", members=9, tolerance=0.002) == line


class TestUncertainty:
    def test_the_image_that_members_disagree_on_comes_first(self, three, tmp_path, capsys):
        out = tmp_path / "unsure"
        arguments = ("uncertainty", "--run", three, "--out", out, "--by", "mutual_information")
        result = json.loads(answer(capsys, *arguments, "--count", 3, "--json"))
        with (out / "ranking.csv").open(newline="") as file:
            rows = list(csv.DictReader(file))
        assert len(rows) == COUNT
        assert rows[0]["id"] == result["top"][0]["id"] == f"p{UNSURE:02}"
        # two of three are sure of soil, one of bedrock: the disagreement is all the uncertainty
        expected = -(2 / 3 * np.log(2 / 3) + 1 / 3 * np.log(1 / 3))
        assert float(rows[0]["mutual_information"]) == pytest.approx(expected, abs=1e-3)
        assert float(rows[0]["entropy"]) == pytest.approx(expected, abs=1e-3)
        ranked = [float(row["mutual_information"]) for row in rows]
        assert ranked == sorted(ranked, reverse=True)
        assert [row["rank"] for row in rows] == [str(n) for n in range(1, COUNT + 1)]
        with Image.open(out / "top.png") as sheet:
            assert sheet.format == "PNG"

    def test_wrong_is_a_share_of_the_scored_pixels(self, three, tmp_path, capsys):
        arguments = ("uncertainty", "--run", three, "--out", tmp_path / "u", "--count", 100)
        result = json.loads(answer(capsys, *arguments, "--json"))
        target = np.asarray(DataSet.load(Run(three).data("oof")).target())
        maps = [ProbabilityStore(Run(three).probabilities(n, "oof")) for n in SHARPNESS]
        pred = sum(store.read(slice(None)) for store in maps).argmax(axis=1)
        scored = (target != 0) & (target != UNLABELLED)
        for entry in result["top"][:5]:
            place = IDS.index(entry["id"])
            expected = (pred != target)[place][scored[place]].mean()
            assert entry["wrong"] == pytest.approx(expected, abs=1e-6)
        with (tmp_path / "u" / "ranking.csv").open(newline="") as file:
            rows = list(csv.DictReader(file))
        for name, value in result["spearman"].items():
            pairs = [(float(row[name]), float(row["wrong"])) for row in rows]
            assert value == pytest.approx(spearmanr(pairs).statistic, abs=1e-4)

    def test_unlabelled_images_are_ranked_by_entropy_by_default(self, three, tmp_path, capsys):
        arguments = ("uncertainty", "--run", three, "--split", "test")
        text = answer(capsys, *arguments, "--out", tmp_path / "u", "--count", 4)
        assert "rank correlation" not in text
        assert text.splitlines()[2].endswith(" -")
        with (tmp_path / "u" / "ranking.csv").open(newline="") as file:
            rows = list(csv.DictReader(file))
        values = [float(row["entropy"]) for row in rows]
        assert values == sorted(values, reverse=True)
        assert rows[0]["wrong"] == ""

    def test_an_existing_folder_is_not_overwritten(self, three, tmp_path, capsys):
        message = refusal(capsys, "uncertainty", "--run", three, "--out", tmp_path)
        assert "exists and is not overwritten; name a new folder" in message


@pytest.fixture(scope="module")
def costs():
    return {cost.name: cost for cost in model_costs.architecture_costs(rows=32, cols=64)}


@pytest.mark.slow
def test_every_architecture_has_costs(costs):
    assert set(costs) == set(ARCHITECTURES)
    assert all(cost.parameters > 0 and cost.multiply_adds > 0 for cost in costs.values())
    assert all(cost.source for cost in costs.values())


@pytest.mark.slow
def test_listed_parameters_are_those_of_the_network(costs):
    network = NormalisedNetwork("unet", channels=1, classes=5)
    assert costs["unet"].parameters == sum(values.numel() for values in network.parameters())


@pytest.mark.slow
def test_four_times_the_pixels_cost_four_times_the_multiply_adds_of_convolutions(
    costs, monkeypatch
):
    monkeypatch.setattr(model_costs, "ARCHITECTURES", Only(ARCHITECTURES))
    (larger,) = model_costs.architecture_costs(rows=64, cols=128)
    assert larger.multiply_adds == 4 * costs["unet"].multiply_adds
    assert larger.parameters == costs["unet"].parameters


class Only:
    """A table of the U-Net alone."""

    def __init__(self, table):
        self.factory = table.factory

    def __iter__(self):
        return iter(["unet"])


@pytest.mark.slow
def test_list_prints_a_line_per_architecture(costs, capsys, monkeypatch):
    monkeypatch.setattr(model_costs, "architecture_costs", lambda: list(costs.values()))
    assert run_command(["members", "list", "--json"]) == 0
    listed = json.loads(capsys.readouterr().out)["architectures"]
    assert run_command(["members", "list"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [row["name"] for row in listed] == list(ARCHITECTURES)
    unet = next(row for row in listed if row["name"] == "unet")
    line = next(line for line in lines if line.startswith("unet "))
    assert f"{unet['parameters'] / 1e6:.2f} M" in line
    assert f"{unet['multiply_adds'] / 1e6:.0f} M" in line
