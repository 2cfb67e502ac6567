"""A verb that is killed while a cluster works for it, and two verbs at once."""

import os
import shutil
import signal
import time

import pytest
from distributed import Client

from ensemble.cli import run
from evaluation.core import plugins
from evaluation.core.worker import _Running
from tests.ensemble.clusters import (
    Started,
    by_hand,
    results,
    write_members,
)

pytestmark = pytest.mark.slow

PLUGIN = '''
import time
from dataclasses import dataclass


@dataclass(frozen=True)
class Slowly:
    def __call__(self, maps):
        time.sleep(0.5)
        return maps.mean(axis=0)


def slowly():
    """Average, and take one's time."""
    return Slowly()


ENS_ENTRIES = {"fusion strategy": {"slowly": "slow:slowly"}, "fusion": {"Slowly": "slow:Slowly"}}
'''

JOB = """
import sys, time
from pathlib import Path
from evaluation.core.cluster import on_cluster
from evaluation.core.function_pickle import pack

address, said = sys.argv[1:]

def job():
    import os
    Path(said, str(os.getpid())).touch()
    time.sleep(60)
    Path(said, "done").touch()

if __name__ == "__main__":
    with on_cluster(address) as cluster:
        cluster.submit(pack(job)).result()
"""


@pytest.fixture(scope="module")
def cluster():
    """A cluster by hand of two workers: its address, and a client to look at it with."""
    with by_hand() as (address, node):
        node(2)
        with Client(address, set_as_default=False) as client:
            client.wait_for_workers(2, timeout=60)
            yield address, client


@pytest.fixture(scope="module")
def members(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs")
    (folder / "slow.py").write_text(PLUGIN)
    return write_members(folder / "members")


def fuse(folder, *options):
    """Start to fuse a run in a process of its own."""
    words = ("--plugin", "slow", "fuse", "--strategy", "slowly", "--run", folder, *options)
    return Started("ens", *words, cwd=folder.parent)


@pytest.fixture(scope="module")
def by_threads(members):
    folder = members.with_name("threads")
    shutil.copytree(members, folder)
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setenv(plugins.VARIABLE, "")
        monkeypatch.syspath_prepend(folder.parent)
        assert run(["--plugin", "slow", "fuse", "--strategy", "slowly", "--run", str(folder)]) == 0
    return results(folder)


@pytest.fixture
def folder(members, request):
    """A copy of the run."""
    copy = members.with_name(request.node.name)
    shutil.copytree(members, copy)
    return copy


def soon(true, seconds=60):
    """Wait until something is true."""
    end = time.monotonic() + seconds
    while not (found := true()):
        assert time.monotonic() < end
        time.sleep(0.02)
    return found


def idle(client):
    running = client.run(lambda: _Running.now).values()
    return not any(running) and not any(client.processing().values())


def chunks(folder):
    return list((folder / "fused").rglob("maps.zarr/c/*/*/*/*"))


def test_what_a_killed_verb_left_is_not_believed_and_the_next_goes_on(cluster, by_threads, folder):
    address, client = cluster
    with fuse(folder, "--cluster", address) as killed:
        soon(lambda: chunks(folder))
        killed.send(signal.SIGKILL)
        assert killed.ended()[0] == -signal.SIGKILL
    assert not (folder / "fused" / "slowly" / "validation").exists()
    soon(lambda: idle(client), 10)
    with fuse(folder, "--cluster", address) as again:
        assert again.ended()[0] == 0
    assert results(folder) == by_threads


def test_of_two_verbs_on_one_run_one_is_refused(cluster, by_threads, folder):
    address, _ = cluster
    with fuse(folder, "--cluster", address) as first:
        soon(lambda: chunks(folder))
        first.send(signal.SIGSTOP)  # so that it cannot be done before the other has begun
        with fuse(folder, "--cluster", address) as second:
            code, said = second.ended()
        first.send(signal.SIGCONT)
        assert code == 2
        assert said == f"ens: {folder} is being written by another ens; wait for it, or use --run\n"
        assert first.ended()[0] == 0
    assert results(folder) == by_threads


def test_a_job_ends_with_the_verb_that_wanted_it(cluster, tmp_path):
    address, client = cluster
    (tmp_path / "job.py").write_text(JOB)
    (tmp_path / "said").mkdir()
    with Started("python", tmp_path / "job.py", address, tmp_path / "said"):
        (file,) = soon(lambda: list((tmp_path / "said").iterdir()))
    soon(lambda: not is_alive(int(file.name)), 10)
    client.wait_for_workers(2, timeout=60)
    soon(lambda: idle(client), 10)
    assert [path.name for path in (tmp_path / "said").iterdir()] == [file.name]


def is_alive(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True
