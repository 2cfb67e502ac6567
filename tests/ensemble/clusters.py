"""Clusters for tests, started by hand as docs/cluster.md shows, and a run to work on."""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import tempfile
from multiprocessing.forkserver import ensure_running
from pathlib import Path
from types import FunctionType

import numpy as np
import pytest
from matplotlib.figure import Figure

from ensemble.pipeline.run.experiment import Experiment
from ensemble.pipeline.run.open_run import IMPORTED
from evaluation.core import cluster, function_pickle
from evaluation.core.blocks import blocks
from evaluation.core.classes import Classes
from evaluation.core.cluster import MappedFunction, on_cluster
from evaluation.core.files import write_json
from evaluation.core.provenance import record
from evaluation.core.ragged import Extent
from evaluation.core.run_folder import Run
from members.data.dataset import DataSet, write_classes
from members.store import ProbabilityStore
from members.store_metadata import TrainingIds
from tests.faults.children import CONTEXT

CLASSES = Classes(("background", "soil", "rock"), 0)
IMAGES, SIZE = 200, (12, 16)
SCRIPTS = Path(sys.executable).parent


def write_members(folder):
    """Write a run with the maps of two members, which learned from none of the images."""
    at, rng = Run(folder), np.random.default_rng(0)
    ids = tuple(f"p{k:03}" for k in range(IMAGES))
    groups = np.array([f"g{k // 4:02}" for k in range(IMAGES)])
    write_classes(at.classes, CLASSES)
    for split in ("oof", "validation"):
        target = rng.integers(0, 3, (IMAGES, *SIZE), dtype=np.uint8)
        images = rng.integers(0, 256, (IMAGES, 1, *SIZE), dtype=np.uint8)
        DataSet(images, target, ids, groups, CLASSES).save(at.data(split))
        for name in ("one", "two"):
            store = ProbabilityStore.create(
                at.probabilities(name, split),
                ids=ids,
                classes=CLASSES,
                extent=Extent.uniform(len(ids), SIZE),
                seen=TrainingIds((frozenset(),)),
            )
            for block in blocks(IMAGES):
                store.write(block, _drawn(rng, target[block]))
            record(store.folder, config={IMPORTED: name}, inputs={})
    write_json(at.folds, {"folds": 2, "fold": [k // 4 % 2 for k in range(IMAGES)]})
    record(at.path / "data", config={}, inputs={})
    Experiment(data="sample", folds=2).write(at.experiment)
    return at.path


def _drawn(rng, target):
    maps = rng.gamma(1, 1, (len(target), 3, *SIZE)).astype(np.float32)
    maps += np.eye(3, dtype=np.float32)[target].transpose(0, 3, 1, 2)
    return maps / maps.sum(axis=1, keepdims=True)


def results(folder):
    """Return the bytes of all that is not a record; leftovers too."""
    files = {p.relative_to(folder): p for p in folder.rglob("*") if p.is_file()}
    return {name: p.read_bytes() for name, p in files.items() if "provenance" not in name.name}


def without_checks(monkeypatch):
    """Take off functions the checks that they have under pytest: those cannot be pickled."""
    reduce = function_pickle._Pickler.reducer_override

    def reduced(self, thing):
        if isinstance(thing, FunctionType) and "<locals>" in thing.__qualname__:
            checked = getattr(thing, "__wrapped__", None)
            if checked is not None:
                return (lambda function: function), (checked,)
        return reduce(self, thing)

    monkeypatch.setattr(function_pickle._Pickler, "reducer_override", reduced)


@contextlib.contextmanager
def processes(count):
    """Start worker processes, to which work goes within `sent_to` alone."""
    with pytest.MonkeyPatch.context() as monkeypatch:
        without_checks(monkeypatch)
        forked(monkeypatch)
        with on_cluster(workers=count) as found:
            cluster._CURRENT.set(None)
            yield found


@contextlib.contextmanager
def sent_to(found):
    """Send work on blocks, and jobs, to a cluster that is there."""
    token = cluster._CURRENT.set(found)
    try:
        yield found
    finally:
        cluster._CURRENT.reset(token)


def killing(monkeypatch):
    """Return the workers one of which is killed once it has blocks to do, and those that were."""
    submit, living, killed = MappedFunction.submit, [], []

    def submit_and_kill(self, block):
        task = submit(self, block)
        if living and block.start:
            killed.append(living.pop())
            os.kill(killed[-1], signal.SIGKILL)
            living.clear()
        return task

    monkeypatch.setattr(MappedFunction, "submit", submit_and_kill)
    return living, killed


def forked(monkeypatch):
    """Let workers be forked from a process that has imported all; nobody draws, as nobody there."""
    setting = "distributed.worker.multiprocessing-method"
    monkeypatch.setitem(cluster.SETTINGS, setting, CONTEXT.get_start_method())
    monkeypatch.setattr(Figure, "savefig", lambda _, file, **__: Path(file).write_bytes(b"a plot"))
    ensure_running()


def free_port():
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        return bound.getsockname()[1]


class Started:
    """A program in a process group of its own: all that it starts can be killed with it."""

    def __init__(self, *words, cwd=None, **environment):
        """Start a script of this environment."""
        self._said = tempfile.TemporaryFile("w+")  # noqa: SIM115 (a pipe would be full some day)
        self.process = subprocess.Popen(
            [SCRIPTS / words[0], *map(str, words[1:])],
            cwd=cwd,
            env=os.environ | environment,
            stdout=subprocess.DEVNULL,
            stderr=self._said,
            start_new_session=True,
        )

    def send(self, number):
        """Send a signal to the whole group; whoever has ended does not hear it."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, number)

    def ended(self):
        """Wait for the end; return the exit code and what was said on stderr."""
        code = self.process.wait()
        self._said.seek(0)
        with self._said:
            return code, self._said.read()

    def __enter__(self):
        """Return this, which does not outlive the context."""
        return self

    def __exit__(self, *_):
        """Kill what still runs."""
        self.send(signal.SIGKILL)
        self.process.wait()
        self._said.close()


@contextlib.contextmanager
def by_hand(**environment):
    """Start a scheduler; give its address and what starts a node of so many workers."""
    port = free_port()
    address = f"tcp://127.0.0.1:{port}"

    def node(workers, *options):
        words = ("--nworkers", workers, "--nthreads", 1, "--memory-limit", 0, "--no-dashboard")
        return living.enter_context(Started("dask", "worker", address, *words, *options))

    scheduler = ("dask", "scheduler", "--host", "127.0.0.1", "--port", port, "--no-dashboard")
    with contextlib.ExitStack() as living:
        living.enter_context(Started(*scheduler, **environment))
        yield address, node
