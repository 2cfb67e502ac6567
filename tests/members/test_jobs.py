"""Jobs in parallel: each ends, whatever happens to the others."""

import importlib

import pytest

from members.jobs import device_slots, run_jobs, run_parallel
from members.recipe import Member, Recipe
from members.train import Fold

MODULE = """
import os
from dataclasses import dataclass

from evaluation.core.errors import EnsError
from members.jobs import TrainJob


@dataclass(frozen=True, eq=False)
class ScriptedJob(TrainJob):
    def __call__(self, device):
        if self.config["what"] == "die":
            os._exit(9)
        if self.config["what"] == "refuse":
            raise EnsError("no")
        if self.config["what"] == "fill":
            import torch

            raise torch.OutOfMemoryError("CUDA out of memory")
        (self.folder / self.config["name"]).write_text(device)
"""


@pytest.fixture
def scripted(tmp_path, monkeypatch):
    import numpy as np

    (tmp_path / "scripted_jobs.py").write_text(MODULE)
    monkeypatch.syspath_prepend(str(tmp_path))
    module = importlib.import_module("scripted_jobs")
    fold = Fold(0, np.arange(3))

    def make(name, what):
        asked = {"name": name, "what": what}
        return module.ScriptedJob(Member("m", Recipe()), tmp_path, fold, 0, tmp_path, asked, {})

    return make


@pytest.mark.slow
def test_a_job_that_kills_its_process_stops_no_other(scripted, tmp_path):
    jobs = [scripted(f"j{k}", "die" if k == 1 else "refuse" if k == 3 else "do") for k in range(6)]
    ended = {job.config["name"]: error for job, error in run_jobs(jobs, ["cpu"], workers=2)}
    assert sorted(ended) == ["j0", "j1", "j2", "j3", "j4", "j5"]
    assert "its process died" in str(ended["j1"])
    assert str(ended["j3"]) == "no"
    assert all(ended[name] is None for name in ("j0", "j2", "j4", "j5"))
    assert {p.name for p in tmp_path.glob("j*")} == {"j0", "j2", "j4", "j5"}


@pytest.mark.slow
def test_jobs_are_taken_as_processes_get_free(scripted):
    taken, ended = [], 0

    def jobs():
        for number in range(5):
            taken.append(number)
            yield scripted(f"j{number}", "do")

    for _ in run_parallel(jobs(), ["cpu", "cpu"]):
        ended += 1
        assert len(taken) <= ended + 2
    assert ended == 5


def test_a_single_worker_needs_no_process(scripted, tmp_path):
    assert [error for _, error in run_jobs([scripted("j", "do")], ["cpu"], workers=1)] == [None]
    assert (tmp_path / "j").read_text() == "cpu"


def test_a_job_that_fills_the_gpu_says_what_to_do(scripted):
    [(_, error)] = run_jobs([scripted("j", "fill")], ["cpu"], workers=1)
    assert str(error) == "the GPU ran out of memory; use fewer --workers or a smaller batch"


def test_processes_alternate_between_devices(monkeypatch):
    monkeypatch.setattr("os.cpu_count", lambda: 6)
    gpus = ["cuda:0", "cuda:1"]
    assert device_slots(["cpu"], None, 9) == ["cpu"] * 6
    assert device_slots(["cpu"], None, 2) == ["cpu"] * 2
    assert device_slots(["cpu"], None, 0) == ["cpu"]
    assert device_slots(gpus, None, 99) == gpus * 3
    assert device_slots(gpus[:1], None, 99) == gpus[:1] * 4
    assert device_slots(gpus, 2, 99) == gpus * 2
    assert device_slots(gpus, 5, 3) == ["cuda:0", "cuda:1", "cuda:0"]
