"""Ctrl-C, and the end of the parent, while networks are trained or blocks are worked on."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from evaluation.core.files import is_temp

pytestmark = pytest.mark.slow

ENS = [sys.executable, "-c", "from ensemble.cli import main; main()"]
STOPPED = "ens: stopped; finished work is kept: the same command resumes it"
PATIENCE = 120
AT_ONCE = 2
"""Seconds that an interrupted command may take beyond the block that it is at."""


def started(*words):
    """Start a command that Ctrl-C reaches, also where the tests themselves ignore it."""
    before = signal.signal(signal.SIGINT, signal.SIG_DFL)
    try:
        return subprocess.Popen(
            [*ENS, *words], stderr=subprocess.PIPE, text=True, start_new_session=True
        )
    finally:
        signal.signal(signal.SIGINT, before)


def ended(process):
    """End what a test left."""
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    process.stderr.close()


def wait_until(condition, process):
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert process.poll() is None, process.stderr.read()
        assert time.monotonic() < deadline
        time.sleep(0.02)


@pytest.fixture
def training(tiny, request):
    """A training that has begun, in as many worker processes, and would take for ever."""
    tiny.empty()
    words = ["--data", tiny.folder / "training.npz", "--validation", tiny.folder / "validation.npz"]
    words += ["--folds", "2", "--epochs", "1000000", "--member", "one=unet(width=2, depth=1)"]
    count = getattr(request, "param", 2)
    process = started("train-members", *words, "--workers", str(count), "--run", tiny.run)
    wait_until(lambda: len(begun(tiny)) == count, process)
    yield process
    ended(process)


def begun(tiny):
    return [path for path in tiny.run.glob("members/*/.fold-*") if is_temp(path)]


def workers(process):
    """Return the ids of the processes that train."""
    return {int(path.name.split("-")[-2]) for path in process}


def alive(pid):
    try:
        return "Z" not in Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
    except FileNotFoundError:
        return False


def waited(pid):
    """Return the seconds in which a process could have run, had another not had the core."""
    try:
        return int(Path(f"/proc/{pid}/schedstat").read_text().split()[1]) / 1e9
    except (FileNotFoundError, ProcessLookupError):
        return None


def seconds_to_end(process):
    """Return how long a process takes to its end, but for what others took on a busy machine."""
    began, before = time.monotonic(), waited(process.pid)
    last = before
    while process.poll() is None and time.monotonic() < began + PATIENCE:
        last = waited(process.pid) or last
        time.sleep(0.01)
    return time.monotonic() - began - (last - before)


@pytest.mark.parametrize(
    ("training", "to"),
    [
        (2, "the terminal"),
        pytest.param(2, "the parent", marks=pytest.mark.faults),
        pytest.param(1, "the terminal", marks=pytest.mark.faults),
    ],
    indirect=["training"],
)
def test_an_interrupted_training_ends_at_once_and_says_how_to_go_on(tiny, training, to):
    kill = os.killpg if to == "the terminal" else os.kill
    kill(training.pid, signal.SIGINT)
    assert seconds_to_end(training) < AT_ONCE
    said = training.stderr.read()
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
    began = time.monotonic()
    while any(map(alive, pids)) and time.monotonic() < began + PATIENCE:
        time.sleep(0.01)
    assert not any(map(alive, pids))


@pytest.fixture(scope="module")
def maps(tmp_path_factory):
    """Maps of so many images that work on them takes a while; a block takes part of a second."""
    path = tmp_path_factory.mktemp("maps") / "maps.npy"
    np.save(path.with_name("images.npy"), np.zeros((2000, 32, 64), np.uint8))
    drawn = np.random.default_rng(0).integers(0, 100, (2000, 3, 32, 64), np.uint8)
    drawn[:, 2] = 255 - drawn[:, 0] - drawn[:, 1]
    np.save(path, drawn)
    for number in range(8):
        os.link(path, path.with_name(f"maps-{number}.npy"))
    return path


@pytest.mark.faults
@pytest.mark.parametrize("verb", ["fuse", "postprocess"])
def test_interrupted_work_on_blocks_ends_with_them_and_leaves_nothing(maps, verb, tmp_path):
    how = {
        "fuse": ["--strategy", "median"],
        "postprocess": ["--maps", maps, "--images", maps.with_name("images.npy"), "--chain", "crf"],
    }
    members = sorted(maps.parent.glob("maps-*.npy"))
    how["fuse"] += [word for member in members for word in ("--maps", member)]
    process = started(verb, *how[verb], "--out", tmp_path / "out.npy")
    try:
        wait_until(lambda: any(map(is_temp, tmp_path.iterdir())), process)
        os.killpg(process.pid, signal.SIGINT)
        assert seconds_to_end(process) < AT_ONCE + 1  # the block under way
        said = process.stderr.read()
    finally:
        ended(process)
    assert process.returncode == 2
    assert said.splitlines()[-1] == STOPPED
    assert list(tmp_path.iterdir()) == []
