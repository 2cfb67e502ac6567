"""A list of names holds each once: a mean over a, a and b would weigh a double."""

import numpy as np
import pytest

import ensemble
from ensemble.pipeline.run.experiment import read_experiment
from evaluation.core.errors import BadSpec


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["fuse", "--strategy", "mean", "--members", "one,two, one"], "member one is given"),
        (["score", "--candidate", "one", "--candidate", "one"], "--candidate one is given"),
        (["score", "--metric", "dice", "--metric", "dice"], "--metric dice is given"),
        (["overlay", "--candidate", "a", "--candidate", "a", "--out", "f"], "--candidate a is"),
        (["overlay", "--candidate", "a", "--image", "i", "--image", "i"], "--image i is given"),
        (["tune-postproc", "--fusion", "a", "--image", "i", "--image", "i"], "--image i is given"),
        (["train-members", "--only", "one,two", "--only", "one"], "--only: one is given"),
    ],
    ids=lambda value: " ".join(value[:4]) if isinstance(value, list) else "",
)
def test_every_option_that_takes_names_refuses_one_given_twice(
    trained_run, refusal, words, message
):
    line = refusal(*words, "--run", trained_run)
    assert f"{message}" in line
    assert line.endswith("twice; name each once")


def test_an_experiment_refuses_a_member_named_twice(tmp_path):
    file = tmp_path / "e.yaml"
    file.write_text("fusions: {both: {strategy: mean, members: [a, b, a]}}")
    with pytest.raises(BadSpec, match=r"e\.yaml: fusion 'both': member a is given twice"):
        read_experiment(file)


def test_a_file_of_maps_given_twice_is_refused(tmp_path, refusal, monkeypatch):
    monkeypatch.chdir(tmp_path)
    np.save("a.npy", np.full((1, 2, 3, 3), 0.5, np.float32))
    words = ["fuse", "--strategy", "mean", "--out", "f.npy", "--maps", "a.npy"]
    assert "a.npy is given twice" in refusal(*words, "--maps", "./a.npy")
    with pytest.raises(BadSpec, match="is given twice"):
        ensemble.fuse(["a.npy", tmp_path / "a.npy"])
