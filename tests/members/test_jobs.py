"""Jobs in parallel: each ends, whatever happens to the others."""

import contextlib
import importlib
import sys
from functools import partial

import pytest
import torch

from members import worker_pool
from members.devices import DeviceFailed
from members.jobs import device_slots, run_jobs, run_parallel
from members.recipe import Member, Recipe
from members.train import Fold

MODULE = """
import os
from dataclasses import dataclass

import torch

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
            raise torch.OutOfMemoryError("CUDA out of memory")
        if self.config["what"] == "assert":
            raise torch.AcceleratorError("CUDA error: device-side assert triggered", 710)
        if self.config["what"] == "bug":
            raise KeyError("what")
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
def test_a_gpu_that_failed_is_the_error_of_one_job_and_the_others_are_done(scripted, tmp_path):
    jobs = [scripted(f"j{k}", "assert" if k == 1 else "do") for k in range(5)]
    ended = {job.config["name"]: error for job, error in run_jobs(jobs, ["cpu"], workers=2)}
    assert "the GPU failed (CUDA error: device-side assert triggered)" in str(ended.pop("j1"))
    assert ended == dict.fromkeys(["j0", "j2", "j3", "j4"])
    assert len(list(tmp_path.glob("j*"))) == 4


@pytest.mark.slow
def test_an_error_that_is_ours_ends_the_run_with_its_traceback(scripted):
    jobs = [scripted(f"j{k}", "bug") for k in range(2)]
    with pytest.raises(RuntimeError, match=r"KeyError: 'what'"):
        list(run_jobs(jobs, ["cpu"], workers=2))


class TestTurns:
    """Jobs of one GPU take turns; here on a device that only looks like one."""

    @pytest.fixture(autouse=True)
    def _gpu(self, monkeypatch):
        monkeypatch.setattr(torch.cuda, "device", lambda _: contextlib.nullcontext())
        monkeypatch.setattr(torch.cuda, "Stream", object)
        monkeypatch.setattr(torch.cuda, "stream", lambda _: contextlib.nullcontext())

    class Connection:
        """What the parent sends, and what it gets."""

        def __init__(self, jobs):
            self.jobs, self.sent = list(enumerate(jobs)), []

        def poll(self):
            return bool(self.jobs)

        def recv(self):
            if not self.jobs:
                raise EOFError
            return self.jobs.pop(0)

        def send(self, message):
            self.sent.append(message)

    class Job:
        """It has a number of steps, and fails after the last one if it is told to."""

        def __init__(self, name, steps, seen, error=None):
            self.name, self.count, self.seen, self.error = name, steps, seen, error

        def steps(self, device):
            for _ in range(self.count):
                self.seen.append(self.name)
                yield
            if self.error is not None:
                raise self.error

    def work(self, monkeypatch, jobs):
        monkeypatch.setattr(worker_pool.os, "_exit", lambda code: sys.exit(code))
        monkeypatch.setattr(worker_pool, "_end_with_parent", lambda: None)
        connection = self.Connection(jobs)
        with pytest.raises((EOFError, SystemExit)):
            worker_pool._work(connection, "cuda:0")
        return connection.sent

    def test_each_takes_a_step_until_it_ends(self, monkeypatch):
        seen = []
        jobs = [self.Job("a", 1, seen), self.Job("b", 3, seen), self.Job("c", 2, seen)]
        sent = self.work(monkeypatch, jobs)
        assert seen == list("abcbcb")
        assert [number for number, *_ in sent] == [0, 2, 1]

    def test_without_memory_one_ends_and_the_others_go_on(self, monkeypatch):
        seen = []
        full = torch.OutOfMemoryError("CUDA out of memory")
        sent = self.work(monkeypatch, [self.Job("a", 1, seen, full), self.Job("b", 3, seen)])
        assert seen == list("abbb")
        assert [(number, str(outcome)[:25]) for number, outcome, _ in sent] == [
            (0, "the GPU ran out of memory"),
            (1, "None"),
        ]

    def test_after_a_failed_kernel_the_process_ends_with_all_of_them(self, monkeypatch):
        seen = []
        error = RuntimeError("cuDNN error: CUDNN_STATUS_EXECUTION_FAILED")
        sent = self.work(monkeypatch, [self.Job("a", 1, seen, error), self.Job("b", 9, seen)])
        [(number, outcome, is_bug)] = sent
        assert (number, is_bug) == (None, False)
        assert isinstance(outcome, DeviceFailed)


def test_jobs_left_by_a_process_run_again_alone(monkeypatch):
    rounds = []

    class Worker:
        """A process that dies whenever it has one job, and gives the outcome of any other."""

        bad = None

        def __init__(self, device, at_a_time):
            self.jobs, self.connection, self.is_alone = [], object(), False

        @property
        def has_room(self):
            return len(self.jobs) < 3 and not (self.is_alone and self.jobs)

        def begin(self, job, *, alone=False):
            self.is_alone = alone
            self.jobs.append(job)

        def receive(self):
            jobs, self.jobs = self.jobs, []
            rounds.append(jobs)
            if jobs == [self.bad]:
                return [(self.bad, "died")], []
            return ([], jobs) if self.bad in jobs else ([(job, None) for job in jobs], [])

        def end(self):
            pass

    monkeypatch.setattr(worker_pool, "_Worker", Worker)
    monkeypatch.setattr(worker_pool, "wait", lambda connections: connections)
    jobs = [partial(str, number) for number in range(5)]
    monkeypatch.setattr(Worker, "bad", jobs[1])
    ended = list(worker_pool.run_in_pool(iter(jobs), ["cuda:0"] * 3))
    numbers = [[jobs.index(job) for job in together] for together in rounds]
    assert {jobs.index(job): outcome for job, outcome in ended} == {1: "died"} | dict.fromkeys(
        [0, 2, 3, 4]
    )
    assert numbers == [[0, 1, 2], [0], [1], [2], [3, 4]]


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
    assert str(error).startswith("the GPU ran out of memory; use fewer --workers, a smaller batch")


def test_processes_alternate_between_devices(monkeypatch):
    monkeypatch.setattr("os.cpu_count", lambda: 6)
    gpus = ["cuda:0", "cuda:1"]
    assert device_slots(["cpu"], None, 9) == ["cpu"] * 6
    assert device_slots(["cpu"], None, 2) == ["cpu"] * 2
    assert device_slots(["cpu"], None, 0) == ["cpu"]
    assert device_slots(gpus, None, 99) == gpus * 4
    assert device_slots(gpus[:1], None, 99) == gpus[:1] * 4
    assert device_slots(gpus, 2, 99) == gpus * 2
    assert device_slots(gpus, 5, 3) == ["cuda:0", "cuda:1", "cuda:0"]
