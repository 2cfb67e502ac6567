"""How far jobs have come, as told to a terminal and to a log."""

import io
import math
import sys
import time
from typing import Any

import pytest

from evaluation.core import progress as progress_module
from evaluation.core.progress import progress
from members import job_progress
from members.job_progress import EpochReport, PredictionReport, ProgressFile, show_jobs

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


REPORTS = {
    "training": (
        REPORT,
        "epoch 2 of 5, loss 0.250, holdout .500 (best .500), 5 images/s, 60 s left",
        ("unet fold 1", "2/5", "0.250", ".500", "60 s", "training: 0 of 1 job done"),
    ),
    "predicting": (
        PredictionReport(images=30, total=100, rate=7.0),
        "30 of 100 images, 7 images/s, 10 s left",
        ("unet fold 1", "30/100", "10 s", "predicting: 0 of 1 job done"),
    ),
}


@pytest.mark.parametrize("what", REPORTS)
def test_a_log_has_a_line_per_job_in_progress(what, tmp_path, monkeypatch, capsys):
    report, line, _ = REPORTS[what]
    monkeypatch.setattr(job_progress, "LINE_SECONDS", 0.01)

    def ended():
        ProgressFile(tmp_path / "fold-1").write(report)
        time.sleep(0.2)
        yield "done"

    jobs: list[Any] = [Job(tmp_path / "fold-1"), Job(tmp_path / "fold-2")]
    assert list(show_jobs(ended(), jobs, what)) == ["done"]
    assert set(capsys.readouterr().err.splitlines()) == {
        f"{what}: 0 of 2 jobs done in 0 s",
        f"{what}: unet fold 1: {line}",
    }


@pytest.mark.parametrize("what", REPORTS)
def test_a_terminal_shows_a_table(what, tmp_path, monkeypatch):
    class Terminal(io.StringIO):
        def isatty(self):
            return True

    report, _, cells = REPORTS[what]
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr(sys, "stderr", Terminal())

    def ended():
        ProgressFile(tmp_path / "fold-1").write(report)
        time.sleep(0.7)
        yield "done"

    jobs: list[Any] = [Job(tmp_path / "fold-1")]
    assert list(show_jobs(ended(), jobs, what)) == ["done"]
    text = sys.stderr.getvalue()
    for cell in cells:
        assert cell in text


def test_what_a_killed_process_left_is_not_shown(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(job_progress, "LINE_SECONDS", 0.01)
    ProgressFile(tmp_path / "fold-1").write(REPORT)
    jobs: list[Any] = [Job(tmp_path / "fold-1")]

    def ended():
        time.sleep(0.05)
        yield "done"

    assert list(show_jobs(ended(), jobs, "training")) == ["done"]
    assert capsys.readouterr().err == ""


def test_without_a_terminal_progress_is_told_by_lines(monkeypatch, capsys):
    monkeypatch.setattr(progress_module, "LINE_SECONDS", 0.0)
    assert list(progress(iter("abc"), "fuse", 3)) == list("abc")
    lines = capsys.readouterr().err.splitlines()
    assert [line.split(",")[0] for line in lines] == ["fuse: 1 of 3", "fuse: 2 of 3"]
