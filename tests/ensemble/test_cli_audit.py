"""`ens audit` and `ens score --protocol`: from files and from a run."""

import json

import numpy as np
import pytest

from ensemble.cli import run_command
from evaluation.protocols import PROTOCOLS
from members.data.sample import draw_sample


@pytest.fixture
def files(tmp_path, monkeypatch):
    """Sand is found by both; what A calls background on rock, B calls sand."""
    target = np.zeros((4, 6, 8), np.uint8)
    target[:, 1:] = 1
    target[:, 4:] = 2
    first = target.copy()
    first[:, 4:] = 0
    first[:, 1, :4] = 2
    second = np.where(first == 0, 2, first).astype(np.uint8)
    second[:, 4:] = 0
    second[:, 4:][first[:, 4:] == 0] = 1
    for name, labels in (("target", target), ("a", first), ("b", second)):
        np.save(tmp_path / f"{name}.npy", labels)
    monkeypatch.chdir(tmp_path)
    return tmp_path


FILES = ["--target", "target.npy", "--pred", "a.npy", "--pred", "b.npy"]
FILES += ["--classes", "3", "--ignore", "0"]


def said(capsys, *arguments, code=0):
    capsys.readouterr()
    assert run_command([str(argument) for argument in arguments]) == code
    found = capsys.readouterr()
    return found.err if code else found.out


class TestAudit:
    def test_every_protocol_is_split_exactly(self, files, capsys):
        document = json.loads(said(capsys, "audit", *FILES, "--json"))
        assert set(document["protocols"]) == set(PROTOCOLS)
        for found in document["protocols"].values():
            assert found["pixels"] + found["denominator"] == pytest.approx(found["gain"])
            assert found["after"] - found["before"] == pytest.approx(found["gain"])

    def test_keras_gains_by_the_denominator_what_masked_does_not(self, files, capsys):
        protocols = json.loads(said(capsys, "audit", *FILES, "--json"))["protocols"]
        assert protocols["masked"]["gain"] < 0
        assert protocols["masked"]["denominator"] == 0
        assert protocols["keras"]["denominator"] > 0
        assert protocols["keras"]["averaged"] == {"before": 3, "after": 2}

    def test_the_text_has_one_line_per_protocol(self, files, capsys):
        lines = said(capsys, "audit", *FILES).splitlines()
        assert lines[0] == "from a.npy to b.npy, 4 images"
        assert [line.split()[0] for line in lines[2 : 2 + len(PROTOCOLS)]] == list(PROTOCOLS)
        assert "3 -> 2" in next(line for line in lines if line.startswith("keras"))

    def test_mcnemar_compares_the_correct_pixels(self, files, capsys):
        test = json.loads(said(capsys, "audit", *FILES, "--json"))["mcnemar"]
        assert test["groups"] == 4
        assert 0 <= test["only_before"] + test["only_after"] <= test["pixels"]
        assert f"of {test['pixels']:,}; p = " in said(capsys, "audit", *FILES)

    @pytest.mark.parametrize(
        ("arguments", "words"),
        [
            ([], "0 candidates; expected two: A and B"),
            (["a"], "1 candidates; expected two"),
            (FILES[:4], "give --target, and --pred twice, and no candidates"),
            ([*FILES, "a", "b"], "and no candidates"),
            ([*FILES, "--ignore", "3"], "ignored class 3; expected none, a class index, 0 to 2"),
        ],
    )
    def test_incomplete_arguments_are_refused_in_a_line(self, files, capsys, arguments, words):
        line = said(capsys, "audit", *arguments, code=2)
        assert words in line
        assert line.count("\n") == 1


class TestScore:
    ONE = ("score", *FILES[:4], *FILES[6:])

    def test_files_are_scored_under_the_protocol_that_was_asked(self, files, capsys):
        document = json.loads(
            said(capsys, *self.ONE, "--protocol", "masked(absent=zero)", "--json")
        )
        assert list(document["protocols"]) == ["masked(absent=zero)"]
        assert document["protocols"]["masked(absent=zero)"]["absent"] == "zero"
        assert set(json.loads(said(capsys, *self.ONE, "--json"))["protocols"]) == set(PROTOCOLS)

    @pytest.mark.parametrize(
        ("spec", "words"),
        [
            ("diec", "unknown protocol 'diec'; known: dice, foreground"),
            ("masked(absent=2)", "option 'absent' got 2; expected 'skip', 'zero', 'one' or 'nan'"),
            ("micro(absent=zero)", "has no option 'absent'"),
        ],
    )
    def test_an_unknown_protocol_is_refused_before_a_file_is_read(self, capsys, spec, words):
        arguments = ["score", "--target", "no", "--pred", "no", "--classes", "3"]
        assert words in said(capsys, *arguments, "--protocol", spec, code=2)

    def test_without_a_pixel_to_score_it_is_null_with_a_warning(self, files, capsys):
        np.save("target.npy", np.where(np.arange(8) < 4, 0, 255)[None, None].repeat(6, 1))
        np.save("a.npy", np.ones((1, 6, 8), np.uint8))
        capsys.readouterr()
        assert run_command([*self.ONE, "--json"]) == 0
        found = capsys.readouterr()
        assert "warning: no pixel can be scored" in found.err
        document = json.loads(found.out)
        assert {p["miou"] for p in document["protocols"].values()} == {None}
        assert document["warning"].startswith("no pixel can be scored")


class TestMetrics:
    ONE = ("score", *FILES[:4], *FILES[6:])

    def test_files_are_measured_by_class_and_image(self, files, capsys):
        asked = ["--metric", "dice", "--metric", "surface_dice(tolerance_px=2)", "--per", "image"]
        document = json.loads(said(capsys, *self.ONE, *asked, "--json"))
        found = document["candidates"]["a.npy"]
        assert list(found) == ["dice", "surface_dice(tolerance_px=2)"]
        assert list(found["dice"]["each"]) == ["0", "1", "2", "3"]
        target, pred = np.load("target.npy"), np.load("a.npy")
        hits = ((target == 1) & (pred == 1)).sum()
        areas = (target == 1).sum() + ((target != 0) & (pred == 1)).sum()
        assert found["dice"]["classes"]["1"] == pytest.approx(2 * hits / areas)

    def test_all_needs_maps_for_what_looks_at_them(self, files, capsys):
        document = json.loads(said(capsys, *self.ONE, "--metric", "all", "--json"))
        found = document["candidates"]["a.npy"]
        assert found["brier"] == {"not_measured": "there are no maps of these labels"}
        assert "not_measured" not in found["hausdorff_95"]
        hot = np.load("a.npy")[:, None] == np.arange(3)[:, None, None]
        np.save("maps.npy", (0.1 + 0.7 * hot).astype(np.float32))
        asked = ["--metric", "brier", "--metric", "ece", "--maps", "maps.npy"]
        assert "brier" in said(capsys, *self.ONE, *asked)

    @pytest.mark.parametrize(
        ("arguments", "words"),
        [
            (["--metric", "f1"], "unknown metric 'f1'; known: adaptive_ece"),
            (["--metric", "dice", "--per", "group"], "which have no groups"),
            (
                ["--metric", "dice", "--pred", "few.npy"],
                "target.npy and few.npy: prediction has shape (2,",
            ),
            (
                ["--metric", "dice", "--target", "none.npy"],
                "none.npy and a.npy: target holds no image",
            ),
            (["--metric", "dice", "--classes", "2"], "target holds 2; expected 0 to 1 or 255"),
            (
                ["--metric", "dice", "--maps", "few.npy"],
                "few.npy holds 2 images of 6x8 pixels and 3 classes; expected",
            ),
        ],
    )
    def test_what_cannot_be_measured_is_refused_in_a_line(self, files, capsys, arguments, words):
        np.save("few.npy", np.full((2, 3, 6, 8), 1 / 3, np.float32))
        np.save("none.npy", np.zeros((0, 6, 8), np.uint8))
        line = said(capsys, *self.ONE, *arguments, code=2)
        assert words in line
        assert line.count("\n") == 1


@pytest.mark.slow
def test_candidates_of_a_run_are_audited_and_scored(tmp_path, capsys):
    sample = draw_sample(images=80, test=2, validation=40, size=(16, 24))
    data, validation = sample.save(tmp_path)
    folder = tmp_path / "run"
    given = ["--data", data, "--validation", validation, "--run", folder, "--folds", 2]
    recipe = ["--workers", 1, "--epochs", 1, "--member", "one=unet(width=2, depth=1)"]
    said(capsys, "train-members", *given, *recipe)
    chain = ["--fusion", "one", "--chain", "suppress_background", "--name", "without"]
    said(capsys, "postprocess", "--run", folder, *chain)
    document = json.loads(said(capsys, "audit", "one", "without", "--run", folder, "--json"))
    assert (document["before"], document["after"], document["split"]) == (
        *("one", "without"),
        "validation",
    )
    scores = json.loads((folder / "scores" / "without" / "validation.json").read_text())
    assert set(scores["protocols"]) == set(PROTOCOLS)
    for name, found in scores["protocols"].items():
        assert found["miou"] == pytest.approx(document["protocols"][name]["after"])
    board = json.loads(said(capsys, "score", "--run", folder, "--protocol", "per_image", "--json"))
    examined = {row["name"]: row["examined"] for row in board["candidates"]}
    assert examined["without"] == pytest.approx(scores["protocols"]["per_image"]["miou"])
    asked = ["--metric", "all", "--per", "group", "--candidate", "one", "--candidate", "without"]
    measured = json.loads(said(capsys, "score", "--run", folder, *asked, "--json"))["candidates"]
    assert measured["one"]["log_loss"]["overall"] > 0
    assert measured["without"]["log_loss"] == {"not_measured": "there are no maps of these labels"}
    masked = scores["protocols"]["masked"]["miou"]
    assert measured["without"]["iou"]["overall"] == pytest.approx(masked)
    assert len(measured["one"]["dice"]["each"]) > 1
