"""Training and searches on a Dask cluster."""

import threading
import time

import pytest

from ensemble.cli import run_command
from ensemble.pipeline.search.trials import run_parallel
from evaluation.core.cluster import _CURRENT, Cluster, on_cluster
from members.data.sample import draw_sample
from members.jobs import _TRAINING_LOCK, run_on_cluster
from tests.ensemble.clusters import forked

pytestmark = pytest.mark.slow

TINY = "unet(width=2, depth=1)"


def trained(sample, folder, *options):
    data, validation = map(str, sample)
    arguments = ["--data", data, "--validation", validation, "--run", str(folder)]
    arguments += ["--folds", "2", "--epochs", "1", "--member", TINY, *options]
    assert run_command(["train-members", *arguments]) == 0
    names = ("*.safetensors", "c/*/*/*/*")
    files = [path for name in names for path in folder.rglob(name)]
    return {path.relative_to(folder): path.read_bytes() for path in files}


def test_weights_and_maps_are_those_of_this_machine(tmp_path, monkeypatch):
    sample = draw_sample(images=80, test=4, validation=20, size=(16, 16)).save(tmp_path)
    forked(monkeypatch)
    here = trained(sample, tmp_path / "here", "--workers", "1")
    assert {path.suffix for path in here} == {"", ".safetensors"}
    monkeypatch.chdir(tmp_path)  # a worker has another folder: relative paths must not fool it
    with on_cluster(workers=2):
        there = trained(sample, (tmp_path / "there").relative_to(tmp_path))
    assert there == here


@pytest.fixture
def gpus(request):
    """A cluster of threads with three cores that declares some GPUs."""
    from distributed import Client, LocalCluster

    resources = {"GPU": request.param} if request.param else None
    local = LocalCluster(
        n_workers=1,
        threads_per_worker=3,
        processes=False,
        resources=resources,
        dashboard_address="127.0.0.1:0",
    )
    with local, Client(local) as client:
        yield Cluster(client)


UNDER_WAY, TOGETHER = [], []


def job(device):
    UNDER_WAY.append(device)
    TOGETHER.append(len(UNDER_WAY))
    time.sleep(0.1)
    UNDER_WAY.pop()
    return device


@pytest.mark.parametrize(
    ("gpus", "turns", "device", "most"),
    [(0, 3, "cpu", 3), (0, 1, "cpu", 1), (1, 3, "cuda:0", 1)],
    indirect=["gpus"],
    ids=["many on as many cores", "one a process", "one a GPU"],
)
def test_jobs_run_parallel(gpus, turns, device, most, monkeypatch):
    TOGETHER.clear()
    monkeypatch.setattr("members.jobs._TRAINING_LOCK", threading.Semaphore(turns))
    assert [outcome for _, outcome in run_on_cluster([job] * 4, gpus)] == [device] * 4
    assert max(TOGETHER) == most


@pytest.mark.parametrize(("gpus", "slots"), [(0, 3), (2, 2)], indirect=["gpus"])
def test_trials_are_drawn_as_workers_get_free(gpus, slots, monkeypatch):
    TOGETHER.clear()
    monkeypatch.setattr("members.jobs._TRAINING_LOCK", threading.Semaphore(9))
    token, drawn = _CURRENT.set(gpus), []

    def trials():
        for number in range(6):
            drawn.append(number)
            yield job

    ended = 0
    for _, _ in run_parallel(trials(), ["cpu"]):
        ended += 1
        assert len(drawn) <= ended + slots
    _CURRENT.reset(token)
    assert (ended, max(TOGETHER)) == (6, slots)


def test_a_process_trains_one_network_at_a_time():
    assert _TRAINING_LOCK.acquire(blocking=False)
    assert not _TRAINING_LOCK.acquire(blocking=False)
    _TRAINING_LOCK.release()
