"""Calibrated fusions of a run, and its members' views."""

import json

import numpy as np
import pytest

from ensemble.block_fusion import TrainingBlocks
from ensemble.cli import run
from ensemble.pipeline.candidates import fuse as fusing
from members.data.dataset import DataSet
from members.data.sample import draw_sample

TINY = "unet(width=2, depth=1)"


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    folder = tmp_path_factory.mktemp("calibrated")
    data, validation = map(
        str, draw_sample(images=80, test=9, validation=40, size=(16, 24)).save(folder)
    )
    arguments = ["train-members", "--data", data, "--validation", validation, "--folds", "2"]
    arguments += ["--run", str(folder / "run"), "--workers", "1", "--epochs", "1"]
    assert run([*arguments, "--member", f"one={TINY}", "--member", f"two={TINY}"]) == 0
    return folder / "run"


@pytest.mark.parametrize("strategy", ["mean(calibrate=vector)", "stacking(calibrate=temperature)"])
def test_a_calibrated_fusion_tells_its_error_before_and_after(trained, capsys, strategy):
    arguments = ["fuse", "--run", str(trained), "--strategy", strategy, "--name", "pooled"]
    capsys.readouterr()
    assert run([*arguments, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)["calibration"]
    assert 0 <= found["after"] <= 1
    assert found["after"] != found["before"]
    assert run(arguments) == 0
    assert f"{found['after']:.4f} after" in capsys.readouterr().out


def test_what_learns_is_told_the_groups(trained, monkeypatch):
    built = []

    def recorded(*given, **named):
        built.append(TrainingBlocks(*given, **named))
        return built[-1]

    monkeypatch.setattr(fusing, "FitBlocks", recorded)
    arguments = ["fuse", "--run", str(trained), "--strategy", "weighted_mean(calibrate=vector)"]
    assert run(arguments) == 0
    groups = DataSet.load(trained / "data" / "oof").groups
    assert len(set(groups)) > 1
    np.testing.assert_array_equal(built[0].groups, groups)


def test_views_change_the_maps_and_keep_the_weights(trained, capsys):
    weights = trained / "members" / "one" / "fold-0" / "weights.safetensors"
    before = weights.stat().st_mtime_ns
    maps = trained / "probabilities" / "one" / "oof" / "provenance.json"
    told = maps.read_text()
    arguments = ["train-members", "--run", str(trained), "--workers", "1", "--tta", "flips"]
    assert run(arguments) == 0
    assert "its maps are stale and are made again" in capsys.readouterr().err
    assert weights.stat().st_mtime_ns == before
    assert maps.read_text() != told
