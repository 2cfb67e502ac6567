"""The three lines that the project promises, as they stand, on a smaller built-in sample."""

import json

import pytest

from ensemble.cli import run_command
from ensemble.pipeline.data import prepare
from ensemble.pipeline.run import experiment
from evaluation.core.run_folder import newest_run
from members.data.sample import draw_sample

LINES = ("ens train-members", "ens fuse --strategy stacking", "ens score")


@pytest.mark.slow
def test_three_lines_train_fuse_and_score_without_the_background(tmp_path, monkeypatch, capsys):
    def small_sample(*, seed):
        return draw_sample(images=80, test=9, validation=40, size=(32, 48), seed=seed)

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(prepare, "draw_sample", small_sample)
    monkeypatch.setitem(experiment.ZOO_RECIPE, "epochs", 1)
    for line in LINES:
        assert run_command(line.split()[1:]) == 0
    run = newest_run()
    classes = json.loads(run.classes.read_text())
    assert classes["names"][classes["ignore"]] == "background"
    (file,) = run.path.glob("scores/stacking_argmax/validation.json")
    scored = json.loads(file.read_text())["protocols"]["masked"]["iou"]
    assert list(scored) == ["soil", "bedrock", "sand", "big rock"]
    header = next(line for line in capsys.readouterr().out.splitlines() if "candidate" in line)
    assert "soil" in header
    assert "background" not in header
