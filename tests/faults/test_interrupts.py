"""Ctrl-C and the end of the parent, with training in worker processes."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from evaluation.ground.leftovers import is_leftover

pytestmark = pytest.mark.slow

ENS = [sys.executable, "-c", "from ensemble.cli import main; main()"]
STOPPED = "ens: stopped; what is done is kept: the same command goes on from here"
PATIENCE = 120
AT_ONCE = 2 * 5
"""Seconds that an interrupted command may take: two, and five times as many on a busy machine."""


@pytest.fixture
def training(tiny):
    """A training in two worker processes that has begun and would take for ever."""
    tiny.empty()
    words = ["--data", tiny.folder / "training.npz", "--validation", tiny.folder / "validation.npz"]
    words += ["--folds", "2", "--epochs", "1000000", "--member", "one=unet(width=2, depth=1)"]
    process = subprocess.Popen(
        [*ENS, "train-members", *words, "--workers", "2", "--run", tiny.run],
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    deadline = time.monotonic() + PATIENCE
    while len(begun(tiny)) < 2:
        assert process.poll() is None, process.stderr.read()
        assert time.monotonic() < deadline
        time.sleep(0.05)
    yield process
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    process.stderr.close()


def begun(tiny):
    return [path for path in tiny.run.glob("members/*/.fold-*") if is_leftover(path)]


def workers(process):
    """Return the ids of the processes that train."""
    return {int(path.name.split("-")[-2]) for path in process}


def alive(pid):
    try:
        return "Z" not in Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
    except FileNotFoundError:
        return False


def seconds_until(condition):
    started = time.monotonic()
    while not condition() and time.monotonic() < started + PATIENCE:
        time.sleep(0.01)
    return time.monotonic() - started


@pytest.mark.parametrize(
    "to", ["the terminal", pytest.param("the parent", marks=pytest.mark.faults)]
)
def test_an_interrupted_training_ends_at_once_and_says_how_to_go_on(tiny, training, to):
    kill = os.killpg if to == "the terminal" else os.kill
    kill(training.pid, signal.SIGINT)
    started = time.monotonic()
    said = training.communicate()[1]
    assert time.monotonic() - started < AT_ONCE
    assert training.returncode == 2
    assert said.splitlines()[-1] == STOPPED
    assert "Traceback" not in said
    assert begun(tiny) == []


@pytest.mark.faults
def test_workers_end_with_a_parent_that_is_killed(tiny, training):
    pids = workers(begun(tiny))
    assert len(pids) == 2
    training.kill()
    training.wait()
    assert seconds_until(lambda: not any(map(alive, pids))) < AT_ONCE
