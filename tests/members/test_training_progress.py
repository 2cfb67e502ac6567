"""How far trainings have come, as told to a terminal and to a log."""

import io
import math
import sys
import time
from typing import Any

import pytest

from evaluation.core import progress as progress_module
from evaluation.core.progress import progress
from members import training_progress
from members.training_progress import EpochReport, ProgressFile, show_trainings

REPORT = EpochReport(epoch=2, epochs=5, score=0.5, loss=0.25, images=100, seconds=20.0)


class Member:
    name = "unet"


class Fold:
    index = 1


class Job:
    """As much of a training as is shown."""

    member, fold, name = Member, Fold, "unet fold 1"

    def __init__(self, folder):
        self.folder = folder


def test_the_file_keeps_the_best_score_and_goes_with_the_training(tmp_path):
    file = ProgressFile(tmp_path / "fold-1")
    assert file.read() is None
    with file.writing() as written:
        for epoch, score in enumerate((0.5, 0.7, math.nan, 0.6), 1):
            written.write(EpochReport(epoch, 5, score, 0.1, 10, 1.0))
        assert file.read().best == 0.7
        assert file.read().seconds_left == 1.0
        written.write(EpochReport(1, 5, 0.2, 0.1, 10, 1.0))  # of the next training, after a crash
        assert file.read().best == 0.2
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("content", ["", "[]", '{"epoch": 1}', "{", "null"])
def test_a_file_that_cannot_be_read_shows_nothing(tmp_path, content):
    file = ProgressFile(tmp_path / "fold-1")
    file.path.write_text(content, encoding="utf-8")
    assert file.read() is None


def test_a_log_has_a_line_per_training_in_progress(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(training_progress, "LINE_SECONDS", 0.01)
    ProgressFile(tmp_path / "fold-1").write(REPORT)

    def ended():
        time.sleep(0.2)
        yield "done"

    jobs: list[Any] = [Job(tmp_path / "fold-1"), Job(tmp_path / "fold-2")]
    assert list(show_trainings(ended(), jobs)) == ["done"]
    lines = set(capsys.readouterr().err.splitlines())
    assert lines == {
        (
            "training: unet fold 1: epoch 2 of 5, loss 0.250, holdout .500 (best .500), 5 images/s,"
            " 60 s left"
        )
    }


def test_a_terminal_shows_a_table(tmp_path, monkeypatch):
    class Terminal(io.StringIO):
        def isatty(self):
            return True

    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr(sys, "stderr", Terminal())
    ProgressFile(tmp_path / "fold-1").write(REPORT)

    def ended():
        time.sleep(0.7)
        yield "done"

    jobs: list[Any] = [Job(tmp_path / "fold-1")]
    assert list(show_trainings(ended(), jobs)) == ["done"]
    text = sys.stderr.getvalue()
    for cell in ("unet", "2/5", "0.250", ".500", "60 s", "0 of 1 training done"):
        assert cell in text


def test_without_a_terminal_progress_is_told_by_lines(monkeypatch, capsys):
    monkeypatch.setattr(progress_module, "LINE_SECONDS", 0.0)
    assert list(progress(iter("abc"), "fuse", 3)) == list("abc")
    lines = capsys.readouterr().err.splitlines()
    assert [line.split(",")[0] for line in lines] == ["fuse: 1 of 3", "fuse: 2 of 3"]
