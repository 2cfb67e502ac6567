"""Scores as a document and on disk."""

import json

import numpy as np
import pytest

from evaluation.core.classes import MARS, Classes, numbered
from evaluation.core.errors import BadData, BadSpec
from evaluation.protocols import PROTOCOLS
from evaluation.scores import (
    ScoredImages,
    read_scores,
    score,
    write_scores,
)

TABLE = np.array(
    [[5, 2, 0, 1, 0], [1, 4, 0, 0, 0], [1, 1, 3, 0, 0], [0, 0, 1, 1, 0], [0, 0, 0, 0, 0]]
)
COUNTS = np.stack([TABLE, TABLE])
IDS = ("sol-1", "sol-2")
GROUPS = np.array([7, 7])


@pytest.fixture
def written(tmp_path):
    folder = tmp_path / "scores" / "mean"
    write_scores(folder, "validation", COUNTS, score(COUNTS, ["masked"], MARS), IDS, GROUPS)
    return folder


def test_the_scores_are_those_that_the_command_prints():
    document = score(COUNTS, ["masked", "keras"], numbered(5, ignore=0))
    assert document["images"] == 2
    assert document["confusion"] == (2 * TABLE).tolist()
    masked, keras = document["protocols"]["masked"], document["protocols"]["keras"]
    assert masked["iou"] == {"1": 4 / 6, "2": 0.5, "3": 0.5, "4": None}
    assert keras["iou"] == {"0": 0, "1": 4 / 6, "2": 0.5, "3": 0.5, "4": None}
    assert masked["miou"] == pytest.approx(0.5556, abs=1e-4)
    assert keras["miou"] == pytest.approx(0.4167, abs=1e-4)
    json.dumps(document, allow_nan=False)


@pytest.mark.parametrize("name", sorted(set(PROTOCOLS) - {"micro"}))
@pytest.mark.parametrize("ignore", [None, 0, 3])
def test_the_mean_of_the_classes_shown_is_the_protocols_mean(name, ignore):
    spec = f"{name}(absent=skip)"
    result = score(COUNTS, [spec], numbered(5, ignore=ignore))["protocols"][spec]
    shown = [value for value in result["iou"].values() if value is not None]
    assert result["miou"] == pytest.approx(np.mean(shown))


def test_classes_are_named_in_their_order():
    result = score(COUNTS, ["masked"], MARS)["protocols"]["masked"]
    assert list(result["iou"]) == ["soil", "bedrock", "sand", "big rock"]


def test_without_a_scored_pixel_scores_are_null():
    nothing = score(np.zeros((3, 2, 2), int), ["masked"], Classes(("a", "b")))
    result = nothing["protocols"]["masked"]
    assert result == {"miou": None, "iou": {"a": None, "b": None}, "absent": "skip"}
    assert "no pixel can be scored" in nothing["warning"]
    assert "warning" not in score(COUNTS, ["masked"], MARS)


def test_absent_classes_are_listed_with_their_value():
    document = score(COUNTS, list(PROTOCOLS), MARS)
    assert document["absent"] == ["big rock"]
    policies = {name: result["absent"] for name, result in document["protocols"].items()}
    assert policies["masked"] == "skip"
    assert policies["smp"] == "one"
    assert policies["nnunet"] == "nan"
    assert policies["micro"] is None
    assert document["protocols"]["smp"]["iou"]["big rock"] == 1


def test_an_unknown_protocol_is_refused():
    with pytest.raises(BadSpec, match="unknown protocol 'maskd'"):
        score(COUNTS, ["maskd"], MARS)


class TestOnDisk:
    def test_written_scores_are_read_back(self, written):
        document, scored = read_scores(written, "validation")
        assert document == score(COUNTS, ["masked"], MARS)
        np.testing.assert_array_equal(scored.counts, COUNTS)
        np.testing.assert_array_equal(scored.groups, GROUPS)
        assert scored.ids == IDS

    def test_no_other_file_is_written(self, written):
        assert sorted(p.name for p in written.iterdir()) == ["validation.json", "validation.npz"]

    def test_groups_that_are_names_or_objects_are_read_as_names(self, tmp_path):
        groups = np.array(["a", "b"], dtype=object)
        write_scores(tmp_path, "oof", COUNTS, {}, IDS, groups)
        assert read_scores(tmp_path, "oof")[1].groups.tolist() == ["a", "b"]

    @pytest.mark.parametrize("name", ["validation.json", "validation.npz"])
    def test_a_missing_file_is_named(self, written, name):
        (written / name).unlink()
        with pytest.raises(BadData, match=f"{name} is missing"):
            read_scores(written, "validation")

    @pytest.mark.parametrize("name", ["validation.json", "validation.npz"])
    def test_a_truncated_file_is_named(self, written, name):
        whole = (written / name).read_bytes()
        (written / name).write_bytes(whole[: len(whole) // 2])
        with pytest.raises(BadData, match=name):
            read_scores(written, "validation")

    def test_ids_of_another_number_are_refused_before_writing(self, tmp_path):
        with pytest.raises(BadData, match="1 ids for 2 scored images; expected one each"):
            write_scores(tmp_path, "oof", COUNTS, {}, IDS[:1], GROUPS)
        assert not list(tmp_path.iterdir())


def test_groups_of_another_number_are_refused():
    with pytest.raises(BadData, match="3 groups for 2 scored images"):
        ScoredImages(COUNTS, IDS, np.arange(3))
