"""`ens members` and `ens members uncertainty`, as a user types them."""

import csv
import json
from dataclasses import replace
from xml.etree import ElementTree

import numpy as np
import pytest
from PIL import Image
from safetensors.torch import save_file
from scipy.stats import spearmanr

from ensemble.cli import run
from ensemble.pipeline.analysis.worth import advice_line
from ensemble.pipeline.run.experiment import Experiment
from ensemble.pipeline.run.open_run import RunMembers
from evaluation.confusion import confusion
from evaluation.core.blocks import blocks
from evaluation.core.classes import MARS, UNLABELLED
from evaluation.core.provenance import record
from evaluation.core.run_folder import Run
from evaluation.protocols import masked
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


def said(capsys, *arguments):
    capsys.readouterr()
    code = run(["members", *map(str, arguments)])
    told = capsys.readouterr()
    return code, told.out, told.err


def answer(capsys, *arguments):
    code, out, err = said(capsys, *arguments)
    assert code == 0, err
    return out


def refusal(capsys, *arguments):
    code, out, err = said(capsys, *arguments)
    assert (code, out, err.count("\n")) == (2, "", 1), err
    return err


def write(folder, maps, *, ids=IDS, seen=None, label=None):
    kind = "probabilities" if label is None else "one_vs_rest"
    store = ProbabilityStore.create(
        folder, ids=ids, classes=MARS, shape=SHAPE, seen=seen, kind=kind, label=label
    )
    for block in blocks(len(ids)):
        store.write(block, maps[block])
    record(folder, asked={}, inputs={})


def maps_of(target, sharpness, seed):
    """Draw maps that are right the more often the sharper."""
    rng = np.random.default_rng(seed)
    maps = np.eye(5, dtype=np.float32)[target].transpose(0, 3, 1, 2) * sharpness
    maps += rng.random(maps.shape, dtype=np.float32)
    maps[UNSURE] = np.eye(5, dtype=np.float32)[1 + seed % 2][:, None, None]
    return maps / maps.sum(axis=1, keepdims=True)


def weigh(run_folder, name, logits=5):
    folder = run_folder.model(name, 0)
    folder.mkdir(parents=True)
    network = NormalisedNetwork(NETWORK, channels=1, classes=logits)
    save_file(network.state_dict(), folder / "weights.safetensors")
    return sum(parameter.numel() for parameter in network.parameters())


OUT_OF_FOLD = TrainingIds((frozenset(IDS[35:]), frozenset(IDS[:35])), (0,) * 35 + (1,) * 35)
ELSEWHERE = TrainingIds((frozenset({"somewhere else"}),))


def planted(path, sharpness, *, seen=OUT_OF_FOLD):
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
    path = planted(tmp_path_factory.mktemp("three") / "run", SHARPNESS)
    for name in ("good", "fair"):
        weigh(Run(path), name)
    return path


class TestMembers:
    def test_noise_is_worth_least_and_is_dropped_which_validation_examines(self, three, capsys):
        found = json.loads(answer(capsys, "--run", three, "--json"))
        assert [row["name"] for row in found["members"]] == ["good", "fair", "noise"]
        noise = found["members"][-1]
        assert noise["leave_one_out"]["change"] < 0
        assert noise["leave_one_out"]["interval"]["low"] < noise["leave_one_out"]["change"]
        advice = found["advice"]
        assert advice["drop"] == ["noise"]
        assert advice["keep"] == ["good", "fair"]
        assert advice["steps"][0]["change"] == -noise["leave_one_out"]["change"]
        assert advice["refused"]["dropped"] == "fair"
        assert advice["examined"]["split"] == "validation"
        assert advice["examined"]["change"] > 0
        assert advice["examined"]["change"] != advice["steps"][0]["change"]

    def test_scores_are_those_of_the_label_maps_and_values_sum_to_the_whole(self, three, capsys):
        found = json.loads(answer(capsys, "--run", three, "--json"))
        target = DataSet.load(Run(three).data("oof")).target()
        stores = [ProbabilityStore(Run(three).probabilities(n, "oof")) for n in SHARPNESS]
        maps = [store.read(slice(None)) for store in stores]
        rows = {row["name"]: row for row in found["members"]}
        together = sum(maps[1:], start=maps[0])
        for row, scores in [(found, together), *zip(map(rows.get, SHARPNESS), maps, strict=True)]:
            pred = scores.argmax(axis=1).astype(np.uint8)
            expected = masked()(confusion(target, pred, classes=5).sum(axis=0), 0)
            assert row["miou"] == pytest.approx(float(expected.miou))
            assert row["iou"]["sand"] == pytest.approx(expected.iou[3])
        total = sum(row["shapley"]["value"] for row in found["members"])
        assert total == pytest.approx(found["miou"])
        assert found["circles"] is None
        assert found["images"] == COUNT
        assert found["groups"] == COUNT // 2

    def test_costs_are_of_the_networks_that_are_there(self, three, capsys):
        found = json.loads(answer(capsys, "--run", three, "--json"))
        good, fair, noise = found["members"]
        network = NormalisedNetwork(NETWORK, channels=1, classes=5)
        assert good["parameters"] == sum(p.numel() for p in network.parameters())
        assert good["milliseconds"] > 0
        assert fair["parameters"] == good["parameters"]
        assert noise["milliseconds"] is noise["parameters"] is None
        assert noise["bytes"] > 3 * COUNT * 5 * 4 * 6 * 2  # three splits in float16
        assert found["advice"]["time_saved"] is None

    def test_pairs_are_symmetric_and_noise_errs_by_itself(self, three, capsys):
        pairs = json.loads(answer(capsys, "--run", three, "--json"))["pairs"]
        assert pairs["members"] == list(SHARPNESS)
        for name in ("disagreement", "double_fault", "correlation"):
            np.testing.assert_allclose(pairs[name], np.transpose(pairs[name]))
        assert pairs["disagreement"][0][1] < pairs["disagreement"][0][2]

    def test_any_number_of_members_ends_with_the_score_of_all(self, three, capsys):
        found = json.loads(answer(capsys, "--run", three, "--json"))
        one, *_, every = found["growth"]
        assert one["gain"] is None
        assert one["miou"] == pytest.approx(np.mean([row["miou"] for row in found["members"]]))
        assert (every["members"], every["miou"]) == (3, pytest.approx(found["miou"]))
        assert "one more gained" in answer(capsys, "--run", three)

    def test_the_growth_is_drawn_with_a_point_a_number(self, three, tmp_path, capsys):
        file = tmp_path / "growth.svg"
        answer(capsys, "--run", three, "--growth", file)
        drawing = ElementTree.parse(file).getroot()
        assert drawing.tag.endswith("svg")
        assert {"1", "2", "3"} <= {"".join(text.itertext()).strip() for text in drawing.iter()}

    def test_the_text_fits_a_hundred_columns_and_ends_with_advice(self, three, capsys):
        text = answer(capsys, "--run", three)
        lines = text.splitlines()
        assert max(map(len, lines[:-1])) <= 100
        assert lines[0] == "3 members on oof: 70 images, 35 groups; masked mIoU"
        assert lines[-2].startswith("drop noise (1 of 3): oof +.") or "oof +0." in lines[-2]
        assert lines[-2].endswith("time not known")
        wanted = f"next: ens fuse --run {three} --strategy mean --members good,fair --name kept"
        assert lines[-1] == wanted

    def test_validation_is_not_examined_by_itself(self, three, capsys):
        found = json.loads(answer(capsys, "--run", three, "--split", "validation", "--json"))
        assert found["split"] == "validation"
        assert found["advice"]["drop"] == ["noise"]
        assert found["advice"]["examined"] is None

    def test_many_members_get_values_of_drawn_circles(self, three, capsys, monkeypatch):
        monkeypatch.setattr("ensemble.diversity.member_worth.EXACT_MEMBERS", 2)
        found = json.loads(answer(capsys, "--run", three, "--circles", 3, "--json"))
        assert found["circles"] == 3
        total = sum(row["shapley"]["value"] for row in found["members"])
        assert total == pytest.approx(found["miou"])
        text = answer(capsys, "--run", three, "--circles", 3)
        assert "Shapley values: 3 random circles, standard error 0." in text

    def test_no_tolerance_keeps_whoever_helps(self, three, capsys):
        strict = json.loads(answer(capsys, "--run", three, "--tolerance", 0, "--json"))
        lax = json.loads(answer(capsys, "--run", three, "--tolerance", 1, "--json"))
        assert strict["advice"]["drop"] == ["noise"]
        assert strict["advice"]["refused"]["change"] < 0
        assert len(lax["advice"]["drop"]) >= 1

    def test_a_family_counts_as_one_member_and_costs_the_sum(self, tmp_path, capsys):
        path = planted(tmp_path / "run", {"good": 0.6})
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
        single = [weigh(run_folder, member.name, logits=2) for member in parts]
        found = json.loads(answer(capsys, "--run", path, "--json"))
        rows = {row["name"]: row for row in found["members"]}
        assert set(rows) == {"good", "five"}
        assert rows["five"]["miou"] == pytest.approx(rows["good"]["miou"], abs=0.01)
        assert rows["five"]["parameters"] == sum(single)
        assert found["pairs"]["correlation"][0][1] > 0.95

    def test_list_is_still_there_and_does_not_hear_options_before_it(self, three, capsys):
        assert "List every architecture" in answer(capsys, "list", "--help")
        code, _, err = said(capsys, "--run", three, "list")
        assert code == 2
        assert "give options after 'list'" in err


class TestRefusals:
    def test_a_split_that_is_not_there(self, three, capsys):
        told = refusal(capsys, "--run", three, "--split", "valid")
        assert "no split 'valid'" in told
        assert "known: oof, validation, test" in told

    def test_a_split_without_target(self, three, capsys):
        assert "'test' has no target to score by" in refusal(
            capsys, "--run", three, "--split", "test"
        )

    def test_one_member_alone(self, tmp_path, capsys):
        path = planted(tmp_path / "run", {"good": 0.6})
        told = refusal(capsys, "--run", path)
        assert "has 1 member with maps of oof; expected two or more" in told

    def test_nothing_to_score(self, tmp_path, capsys):
        path = planted(tmp_path / "run", {"good": 0.6, "fair": 0.5})
        data = DataSet.load(Run(path).data("oof"))
        replace(data, masks=np.zeros_like(data.target())).save(Run(path).data("oof"))
        assert "has no scored pixel" in refusal(capsys, "--run", path)

    def test_maps_of_images_that_the_member_saw(self, tmp_path, capsys):
        leaky = TrainingIds((frozenset(IDS[:3]),))
        path = planted(tmp_path / "run", {"good": 0.6, "fair": 0.5}, seen=leaky)
        assert "was trained on 3 images of oof" in refusal(capsys, "--run", path)

    def test_maps_of_other_images(self, tmp_path, capsys):
        path = planted(tmp_path / "run", {"good": 0.6, "fair": 0.5})
        store = ProbabilityStore(Run(path).probabilities("fair", "oof"))
        maps, ids = store.read(slice(None)), ("other", *IDS[1:])
        write(store.folder, maps, ids=ids, seen=OUT_OF_FOLD)
        assert "'fair' has maps of other images than oof" in refusal(capsys, "--run", path)

    def test_who_is_left_out_or_undeclared_is_told(self, tmp_path, capsys):
        path = planted(tmp_path / "run", {"good": 0.6, "fair": 0.5, "late": 0.5}, seen=None)
        (Run(path).probabilities("late", "oof") / "provenance.json").unlink()
        code, _, err = said(capsys, "--run", path)
        assert code == 0
        assert "late: left out, no maps of oof" in err
        assert "good: does not declare what it was trained on" in err


def advice(**changes):
    step = {"dropped": "pan", "change": -0.00123, "half_width": 0.002, "interval": None}
    known = {"drop": ["p", "b"], "time_saved": 0.5, "steps": [step], "examined": None}
    return {
        "split": "oof",
        "members": [None] * 9,
        "tolerance": 0.002,
        "advice": {**known, "refused": {**step, "dropped": "c"}, **changes},
    }


@pytest.mark.parametrize(
    ("document", "line"),
    [
        (advice(), "drop p, b (2 of 9): oof -0.001 +- 0.002 and 50% less time"),
        (
            advice(examined={"split": "validation", "change": 0.003, "half_width": 0.004}),
            "drop p, b (2 of 9): oof -0.001 +- 0.002, validation +0.003 +- 0.004 and 50% less time",
        ),
        (
            advice(drop=[], steps=[]),
            "drop none: oof -0.0012 +- 0.0020 without c; 0.002 within noise is tolerated",
        ),
    ],
)
def test_advice_is_one_line(document, line):
    assert advice_line(document) == line


class TestUncertainty:
    def test_the_image_that_members_quarrel_over_comes_first(self, three, tmp_path, capsys):
        out = tmp_path / "unsure"
        arguments = ("uncertainty", "--run", three, "--out", out, "--by", "mutual_information")
        found = json.loads(answer(capsys, *arguments, "--count", 3, "--json"))
        with (out / "ranking.csv").open(newline="") as file:
            rows = list(csv.DictReader(file))
        assert len(rows) == COUNT
        assert rows[0]["id"] == found["top"][0]["id"] == f"p{UNSURE:02}"
        # two of three are sure of soil, one of bedrock: the quarrel is all the doubt there is
        expected = -(2 / 3 * np.log(2 / 3) + 1 / 3 * np.log(1 / 3))
        assert float(rows[0]["mutual_information"]) == pytest.approx(expected, abs=1e-3)
        assert float(rows[0]["entropy"]) == pytest.approx(expected, abs=1e-3)
        ranked = [float(row["mutual_information"]) for row in rows]
        assert ranked == sorted(ranked, reverse=True)
        assert [row["rank"] for row in rows] == [str(n) for n in range(1, COUNT + 1)]
        with Image.open(out / "top.png") as sheet:
            assert sheet.format == "PNG"

    def test_wrong_is_the_share_of_scored_pixels(self, three, tmp_path, capsys):
        arguments = ("uncertainty", "--run", three, "--out", tmp_path / "u", "--count", 100)
        found = json.loads(answer(capsys, *arguments, "--json"))
        target = np.asarray(DataSet.load(Run(three).data("oof")).target())
        maps = [ProbabilityStore(Run(three).probabilities(n, "oof")) for n in SHARPNESS]
        pred = sum(store.read(slice(None)) for store in maps).argmax(axis=1)
        scored = (target != 0) & (target != UNLABELLED)
        for entry in found["top"][:5]:
            place = IDS.index(entry["id"])
            expected = (pred != target)[place][scored[place]].mean()
            assert entry["wrong"] == pytest.approx(expected, abs=1e-6)
        with (tmp_path / "u" / "ranking.csv").open(newline="") as file:
            rows = list(csv.DictReader(file))
        for name, value in found["spearman"].items():
            pairs = [(float(row[name]), float(row["wrong"])) for row in rows]
            assert value == pytest.approx(spearmanr(pairs).statistic, abs=1e-4)

    def test_unlabelled_images_are_ranked_too_and_by_entropy_unless_told(
        self, three, tmp_path, capsys
    ):
        arguments = ("uncertainty", "--run", three, "--split", "test")
        text = answer(capsys, *arguments, "--out", tmp_path / "u", "--count", 4)
        assert "rank correlation" not in text
        assert text.splitlines()[2].endswith(" -")
        with (tmp_path / "u" / "ranking.csv").open(newline="") as file:
            rows = list(csv.DictReader(file))
        values = [float(row["entropy"]) for row in rows]
        assert values == sorted(values, reverse=True)
        assert rows[0]["wrong"] == ""

    def test_a_folder_that_exists_is_not_overwritten(self, three, tmp_path, capsys):
        told = refusal(capsys, "uncertainty", "--run", three, "--out", tmp_path)
        assert "exists and is not overwritten; name a new folder" in told
