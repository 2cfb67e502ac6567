"""A worker that is killed in the middle of a verb that trains, predicts or searches."""

import os
import re
import shutil
import signal
import sys
from pathlib import Path

import optuna
import pytest
import yaml

from ensemble.cli import run
from evaluation.core import cluster
from evaluation.core.cluster import MappedFunction
from members import jobs
from members.data.sample import draw_sample
from tests.ensemble.clusters import processes, sent_to, write_members
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

        for place in ("members.jobs", "ensemble.pipeline.search.trials"):
            monkeypatch.setattr(f"{place}.submit_job", submit_dying)
        return graves

    return kill


def here(folder, words):
    """Run a verb by this process alone; return all that the run holds then."""
    token = cluster._CURRENT.set(None)
    assert run([*words, "--run", str(folder)]) == 0
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
    assert run([*training(data), "--run", str(tmp_path / "run")]) == 0
    assert len(list(graves.iterdir())) == 1
    assert differing(contents(tmp_path / "run"), contents(trained)) == []


def test_a_training_that_always_kills_is_named_and_the_others_are_done(
    one, kill, data, tmp_path, monkeypatch, capsys
):
    monkeypatch.setattr(one._client.cluster.scheduler, "allowed_failures", 0)
    kill(at_step, 1, of=lambda job: job.name == "net fold 1", times=99)
    assert run([*training(data), "--run", str(tmp_path / "run")]) == 2
    *_, last = capsys.readouterr().err.splitlines()
    assert last.startswith("ens: its process died, perhaps for want of memory; the others are done")
    assert (tmp_path / "run/members/net/fold-0").is_dir()
    assert not (tmp_path / "run/members/net/fold-1").exists()


def test_prediction(one, kill, data, trained, tmp_path):
    words = ["predict", "--data", data[3], "--split", "new"]
    for name in ("here", "there"):
        shutil.copytree(trained, tmp_path / name)
    expected = here(tmp_path / "here", [*words, "--workers", "1"])
    graves = kill(at_rename, 3)
    assert run([*words, "--run", str(tmp_path / "there")]) == 0
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
    assert run([*words, "--run", str(tmp_path / "there")]) == 0
    assert len(list(graves.iterdir())) == 1
    assert trials(tmp_path / "there") == trials(tmp_path / "here")


def test_search_of_losses(one, kill, data, tmp_path):
    member = f"{{architecture: '{TINY}', epochs: 1}}"
    words = ["search-loss", *data, "--folds", "2", "--mixture", "dice", "--mixture", "focal"]
    words += ["--member", member]
    expected = here(tmp_path / "here", [*words, "--workers", "1"])
    graves = kill(at_step, 2)
    assert run([*words, "--run", str(tmp_path / "there")]) == 0
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
    assert run([*words, "--run", "run"]) == 0
    assert len(submitted) > 9
    assert found(after) == found(before)


def found(folder):
    """Return what a tuning wrote, without how long it took."""
    written = (folder / "tuning").rglob("*.json*")
    texts = {path.relative_to(folder): path.read_text() for path in written}
    return {path: re.sub(r'"(seconds|made)": [^,}\n]+', "", text) for path, text in texts.items()}
