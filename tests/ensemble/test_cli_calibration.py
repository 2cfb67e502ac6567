"""Calibrated fusions of a run, and its members' views."""

import json

import numpy as np
import pytest

from ensemble.block_fusion import TrainingBlocks
from ensemble.cli import run_command
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
    assert run_command([*arguments, "--member", f"one={TINY}", "--member", f"two={TINY}"]) == 0
    return folder / "run"


@pytest.mark.parametrize("strategy", ["mean(calibrate=vector)", "stacking(calibrate=temperature)"])
def test_a_calibrated_fusion_reports_its_error_before_and_after(trained, capsys, strategy):
    arguments = ["fuse", "--run", str(trained), "--strategy", strategy, "--name", "pooled"]
    capsys.readouterr()
    assert run_command([*arguments, "--json"]) == 0
    errors = json.loads(capsys.readouterr().out)["calibration"]
    assert 0 <= errors["after"] <= 1
    assert errors["after"] != errors["before"]
    assert run_command(arguments) == 0
    assert f"{errors['after']:.4f} after" in capsys.readouterr().out


def test_a_fusion_that_learns_is_given_the_groups(trained, monkeypatch):
    built = []

    def recorded(*given, **named):
        built.append(TrainingBlocks(*given, **named))
        return built[-1]

    monkeypatch.setattr(fusing, "TrainingBlocks", recorded)
    arguments = ["fuse", "--run", str(trained), "--strategy", "weighted_mean(calibrate=vector)"]
    assert run_command(arguments) == 0
    groups = DataSet.load(trained / "data" / "oof").groups
    assert len(set(groups)) > 1
    np.testing.assert_array_equal(built[0].groups, groups)


def test_tta_changes_the_maps_and_keeps_the_weights(trained, capsys):
    weights = trained / "members" / "one" / "fold-0" / "weights.safetensors"
    before = weights.stat().st_mtime_ns
    maps = trained / "probabilities" / "one" / "oof" / "provenance.json"
    before_text = maps.read_text()
    arguments = ["train-members", "--run", str(trained), "--workers", "1", "--tta", "flips"]
    assert run_command(arguments) == 0
    assert "its maps are stale and are made again" in capsys.readouterr().err
    assert weights.stat().st_mtime_ns == before
    assert maps.read_text() != before_text
