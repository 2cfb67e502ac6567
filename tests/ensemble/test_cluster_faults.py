"""Workers and commands that are killed while a cluster works."""

import os
import re
import shutil
import signal
import sys
import time
from pathlib import Path

import optuna
import pytest
import yaml
from distributed import Client

from ensemble.cli import run_command
from evaluation.core import cluster, plugins
from evaluation.core.cluster import MappedFunction
from evaluation.core.worker import RunningTasks
from members import jobs
from members.data.sample import draw_sample
from tests.ensemble.clusters import (
    Started,
    by_hand,
    processes,
    results,
    sent_to,
    write_members,
)
from tests.faults.trees import contents, differing

pytestmark = pytest.mark.slow

TINY = "unet(width=2, depth=1)"
SPACE = {
    "recipe": {"architecture": TINY, "epochs": 3},
    "space": {"optimizer.lr": {"low": 1e-4, "high": 1e-1, "log": True}},
}


@pytest.fixture(scope="module")
def _one():
    with processes(1) as found:
        yield found


@pytest.fixture
def one(_one):
    """One worker process, so that a job that waits is innocent of what happens to the first."""
    with sent_to(_one):
        yield _one


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sample")
    sample = draw_sample(images=80, test=4, validation=20, size=(16, 16)).save(folder)
    training, validation = map(str, sample)
    return ["--data", training, "--validation", validation]


def at_step(number):
    """Kill this process once so many steps of training are done."""
    from torch.optim.optimizer import register_optimizer_step_post_hook

    steps = []

    def look(*_):
        steps.append(0)
        if len(steps) == number:
            os.kill(os.getpid(), signal.SIGKILL)

    register_optimizer_step_post_hook(look)


def at_rename(number):
    """Kill this process when it is about to give a file its name, for so many a time."""
    renamed = []

    def look(event, _):
        renamed.extend([0] if event == "os.rename" else [])
        if len(renamed) == number:
            os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(look)


@pytest.fixture
def kill(monkeypatch, tmp_path):
    """Return what lets the worker of one job kill itself in its middle: once, or each time."""
    submit, graves = jobs.submit_job, tmp_path / "graves"

    def kill(strike, number, *, of=lambda job: True, times=1):
        graves.mkdir(exist_ok=True)

        def dying(job):
            def work(device):
                dead = len(list(graves.iterdir()))
                if dead < times:
                    (graves / str(os.getpid())).touch()
                    strike(number)
                return job(device)

            return work

        def submit_dying(there, job):
            return submit(there, dying(job) if of(job) else job)

        monkeypatch.setattr("members.jobs.submit_job", submit_dying)
        return graves

    return kill


def here(folder, words):
    """Run a verb by this process alone; return all that the run holds then."""
    token = cluster._CURRENT.set(None)
    assert run_command([*words, "--run", str(folder)]) == 0
    cluster._CURRENT.reset(token)
    return contents(folder)


def training(data):
    return ["train-members", *data, "--folds", "2", "--epochs", "1", "--member", f"net={TINY}"]


@pytest.fixture(scope="module")
def trained(data, tmp_path_factory):
    """A run that was trained undisturbed."""
    folder = tmp_path_factory.mktemp("trained") / "run"
    here(folder, [*training(data), "--workers", "1"])
    return folder


@pytest.mark.parametrize(
    ("strike", "number", "of"),
    [
        (at_step, 3, "net fold 0"),
        (at_rename, 2, "net fold 0"),
        (at_rename, 3, "net oof"),
    ],
    ids=["while it trains", "while it writes", "while it predicts"],
)
def test_training(one, kill, data, trained, tmp_path, strike, number, of):
    graves = kill(strike, number, of=lambda job: job.name == of)
    assert run_command([*training(data), "--run", str(tmp_path / "run")]) == 0
    assert len(list(graves.iterdir())) == 1
    assert differing(contents(tmp_path / "run"), contents(trained)) == []


def test_a_training_that_always_kills_is_named_and_the_others_are_done(
    one, kill, data, tmp_path, monkeypatch, capsys
):
    monkeypatch.setattr(one._client.cluster.scheduler, "allowed_failures", 0)
    kill(at_step, 1, of=lambda job: job.name == "net fold 1", times=99)
    assert run_command([*training(data), "--run", str(tmp_path / "run")]) == 2
    *_, last = capsys.readouterr().err.splitlines()
    assert last.startswith("ens: its process died, possibly out of memory; the others are done")
    assert (tmp_path / "run/members/net/fold-0").is_dir()
    assert not (tmp_path / "run/members/net/fold-1").exists()


def test_prediction(one, kill, data, trained, tmp_path):
    words = ["predict", "--data", data[3], "--split", "new"]
    for name in ("here", "there"):
        shutil.copytree(trained, tmp_path / name)
    expected = here(tmp_path / "here", [*words, "--workers", "1"])
    graves = kill(at_rename, 3)
    assert run_command([*words, "--run", str(tmp_path / "there")]) == 0
    assert len(list(graves.iterdir())) == 1
    assert differing(contents(tmp_path / "there"), expected) == []


def trials(folder):
    study = optuna.load_study(study_name=None, storage=f"sqlite:///{folder}/search/study.sqlite")
    return [(t.number, t.state, t.value, t.params, t.intermediate_values) for t in study.trials]


def test_search(one, kill, data, tmp_path):
    space = tmp_path / "space.yaml"
    space.write_text(yaml.safe_dump(SPACE))
    words = ["search", str(space), *data, "--folds", "2", "--trials", "3"]
    here(tmp_path / "here", [*words, "--workers", "1"])
    graves = kill(at_step, 5)
    assert run_command([*words, "--run", str(tmp_path / "there")]) == 0
    assert len(list(graves.iterdir())) == 1
    assert trials(tmp_path / "there") == trials(tmp_path / "here")


def test_search_of_losses(one, kill, data, tmp_path):
    member = f"{{architecture: '{TINY}', epochs: 1}}"
    words = ["search-loss", *data, "--folds", "2", "--mixture", "dice", "--mixture", "focal"]
    words += ["--member", member]
    expected = here(tmp_path / "here", [*words, "--workers", "1"])
    graves = kill(at_step, 2)
    assert run_command([*words, "--run", str(tmp_path / "there")]) == 0
    assert len(list(graves.iterdir())) == 1
    assert differing(contents(tmp_path / "there"), expected) == []


def test_tuning(one, tmp_path, monkeypatch):
    before, after = tmp_path / "here/run", tmp_path / "there/run"
    write_members(before)
    shutil.copytree(before, after)
    words = ["tune-postproc", "--fusion", "one", "--trials", "3"]
    monkeypatch.chdir(before.parent)
    here(Path("run"), words)
    submit, living = MappedFunction.submit, list(one._client.run(os.getpid).values())
    submitted = []

    def submit_and_kill(self, block):
        task = submit(self, block)
        submitted.append(block)
        if len(submitted) == 9:
            os.kill(living[0], signal.SIGKILL)
        return task

    monkeypatch.setattr(MappedFunction, "submit", submit_and_kill)
    monkeypatch.chdir(after.parent)
    assert run_command([*words, "--run", "run"]) == 0
    assert len(submitted) > 9
    assert found(after) == found(before)


def found(folder):
    """Return what a tuning wrote, without how long it took."""
    written = (folder / "tuning").rglob("*.json*")
    texts = {path.relative_to(folder): path.read_text() for path in written}
    return {path: re.sub(r'"(seconds|made)": [^,}\n]+', "", text) for path, text in texts.items()}


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
def dask_cluster():
    """A dask_cluster by hand of two workers: its address, and a client to look at it with."""
    with by_hand() as (address, node):
        node(2)
        with Client(address, set_as_default=False) as client:
            client.wait_for_workers(2, timeout=60)
            yield address, client


@pytest.fixture(scope="module")
def slow_members(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs")
    (folder / "slow.py").write_text(PLUGIN)
    return write_members(folder / "members")


def fuse(folder, *options):
    """Start to fuse a run in a process of its own."""
    words = ("--plugin", "slow", "fuse", "--strategy", "slowly", "--run", folder, *options)
    return Started("ens", *words, cwd=folder.parent)


@pytest.fixture(scope="module")
def slow_by_threads(slow_members):
    folder = slow_members.with_name("threads")
    shutil.copytree(slow_members, folder)
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setenv(plugins.VARIABLE, "")
        monkeypatch.syspath_prepend(folder.parent)
        assert (
            run_command(["--plugin", "slow", "fuse", "--strategy", "slowly", "--run", str(folder)])
            == 0
        )
    return results(folder)


@pytest.fixture
def folder(slow_members, request):
    """A copy of the run."""
    copy = slow_members.with_name(request.node.name)
    shutil.copytree(slow_members, copy)
    return copy


def soon(true, seconds=60):
    """Wait until something is true."""
    end = time.monotonic() + seconds
    while not (found := true()):
        assert time.monotonic() < end
        time.sleep(0.02)
    return found


def idle(client):
    running = client.run(lambda: RunningTasks.now).values()
    return not any(running) and not any(client.processing().values())


def chunks(folder):
    return list((folder / "fused").rglob("maps.zarr/c/*/*/*/*"))


def test_what_a_killed_verb_left_is_not_believed_and_the_next_goes_on(
    dask_cluster, slow_by_threads, folder
):
    address, client = dask_cluster
    with fuse(folder, "--cluster", address) as killed:
        soon(lambda: chunks(folder))
        killed.send(signal.SIGKILL)
        assert killed.ended()[0] == -signal.SIGKILL
    assert not (folder / "fused" / "slowly" / "validation").exists()
    soon(lambda: idle(client), 10)
    with fuse(folder, "--cluster", address) as again:
        assert again.ended()[0] == 0
    assert results(folder) == slow_by_threads


def test_of_two_verbs_on_one_run_one_is_refused(dask_cluster, slow_by_threads, folder):
    address, _ = dask_cluster
    with fuse(folder, "--cluster", address) as first:
        soon(lambda: chunks(folder))
        first.send(signal.SIGSTOP)  # so that it cannot be done before the other has begun
        with fuse(folder, "--cluster", address) as second:
            code, said = second.ended()
        first.send(signal.SIGCONT)
        assert code == 2
        assert said == f"ens: {folder} is being written by another ens; wait for it, or use --run\n"
        assert first.ended()[0] == 0
    assert results(folder) == slow_by_threads


def test_a_job_ends_with_the_verb_that_wanted_it(dask_cluster, tmp_path):
    address, client = dask_cluster
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
