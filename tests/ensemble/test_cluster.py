"""On a Dask cluster results are those of threads, and all entries of tables can be sent."""

import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml

from ensemble.cli import run_command
from evaluation.core import cluster
from evaluation.core.blocks import map_blocks
from evaluation.core.cluster import WorkerDied, on_cluster
from evaluation.core.files import is_temp
from tests.ensemble.clusters import (
    forked,
    free_port,
    killing,
    processes,
    results,
    sent_to,
    without_checks,
    write_members,
)

pytestmark = pytest.mark.slow

PAGE = (Path(__file__).parents[2] / "docs" / "cluster.md").read_text()
BY_HAND = re.search(r"```sh\n(.*?)```", PAGE, re.DOTALL)[1]
VERBS = [shlex.split(line)[1:] for line in BY_HAND.splitlines() if line.startswith("ens ")]


@pytest.fixture(scope="module")
def members(tmp_path_factory):
    """A run with the maps of two members."""
    return write_members(tmp_path_factory.mktemp("runs") / "two")


def done(members, folder, before=lambda: None):
    """Copy the run and run the page's verbs in it, wherever `on_cluster` says."""
    shutil.copytree(members, folder)
    for words in VERBS:
        before()
        assert run_command([str(folder) if word == "RUN" else word for word in words[:-2]]) == 0
    return results(folder)


@pytest.fixture(scope="module")
def by_threads(members, tmp_path_factory):
    return done(members, tmp_path_factory.mktemp("threads") / "run")


@pytest.fixture(autouse=True)
def _plain_functions(monkeypatch):
    without_checks(monkeypatch)
    forked(monkeypatch)


@pytest.fixture(scope="module")
def _two():
    with processes(2) as found:
        yield found


@pytest.fixture
def two(_two):
    """Two worker processes, to which this test's work goes."""
    with sent_to(_two):
        yield _two


def test_the_page_shows_the_verbs_on_a_cluster():
    assert [words[0] for words in VERBS] == ["fuse", "postprocess", "score"]
    assert all(words[-2] == "--cluster" for words in VERBS)


def test_a_scheduler_and_two_workers_by_hand(members, by_threads, tmp_path):
    shutil.copytree(members, tmp_path / "run")
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    shell = subprocess.Popen(
        ["bash", "-ec", BY_HAND.replace("RUN", "run").replace("8786", str(free_port()))],
        cwd=tmp_path,
        env=os.environ | {"PATH": path},
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        code = shell.wait(timeout=120)
    finally:
        os.killpg(shell.pid, signal.SIGTERM)
    said = shell.communicate()[1]
    assert code == 0, said
    assert results(tmp_path / "run") == by_threads


def test_the_other_examples_are_python_and_yaml():
    compile(re.search(r"```python\n(.*?)```", PAGE, re.DOTALL)[1], "docs/cluster.md", "exec")
    document = yaml.safe_load(re.search(r"```yaml\n(.*?)```", PAGE, re.DOTALL)[1])
    assert set(document["spec"]) == {"worker", "scheduler"}


@pytest.mark.parametrize("workers", [1, 4])
def test_results_are_those_of_the_threads(members, by_threads, tmp_path, workers):
    with on_cluster(workers=workers):
        assert done(members, tmp_path / "run") == by_threads


def test_a_worker_that_is_killed_in_each_verb_changes_nothing(
    members, by_threads, tmp_path, two, monkeypatch
):
    """Kill a worker that has blocks to do, once a verb; another takes its place."""
    living, killed = killing(monkeypatch)
    look_for_them = lambda: living.extend(two._client.run(os.getpid).values())  # noqa: E731
    assert done(members, tmp_path / "run", before=look_for_them) == by_threads
    assert len(set(killed)) == 3


def test_a_task_that_always_fails_names_its_block_and_stops_the_verb(
    members, tmp_path, two, capsys
):
    folder = tmp_path / "run"
    shutil.copytree(members, folder)
    chunk = folder / "probabilities/two/oof/maps.zarr/c/2/0/0/0"
    chunk.write_bytes(chunk.read_bytes()[:-9] + bytes(9))
    assert run_command(["fuse", "--run", str(folder), "--strategy", "mean"]) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.startswith("ens: ")
    assert said.err.rstrip().endswith("(block 128:192)")
    assert "two/oof: images from 128 on are damaged" in said.err
    assert not [path for path in folder.rglob("*") if is_temp(path)]
    assert not (folder / "fused" / "mean" / "oof").exists()


def test_a_block_that_kills_whoever_takes_it_is_named(monkeypatch):
    monkeypatch.setitem(cluster.SETTINGS, "distributed.scheduler.allowed-failures", 0)

    def work(block):
        if block.start == 3:
            os.kill(os.getpid(), signal.SIGKILL)

    with on_cluster(workers=1), pytest.raises(WorkerDied, match=r"its process died.*\(block 3:4\)"):
        list(map_blocks(work, 9, size=1))


def test_results_come_in_order_and_few_at_a_time(two, tmp_path):
    def work(block):
        (tmp_path / str(block.start)).touch()
        return block

    for taken, block in enumerate(map_blocks(work, 30, size=1)):
        assert block.start == taken
        assert len(list(tmp_path.iterdir())) <= taken + 2 * two.width


def test_a_mistake_of_ours_keeps_its_type_and_names_its_block(two):
    with pytest.raises(ZeroDivisionError) as caught:
        list(map_blocks(lambda block: 1 // (block.start - 2), 9, size=1))
    assert caught.value.__notes__ == ["block 2:3"]


def test_after_an_early_stop_nobody_writes_any_more(two, tmp_path):
    def work(block):
        time.sleep(0.05)
        (tmp_path / str(block.start)).touch()

    results = map_blocks(work, 100, size=1)
    next(results)
    results.close()
    there = len(list(tmp_path.iterdir()))
    assert there <= 2 * two.width + 1
    time.sleep(0.3)
    assert len(list(tmp_path.iterdir())) == there


class TestRefusals:
    def test_no_scheduler(self, members, monkeypatch, capsys):
        monkeypatch.setattr(cluster, "CONNECT_SECONDS", 1)
        assert run_command(["score", "--run", str(members), "--cluster", "tcp://127.0.0.1:1"]) == 2
        said = capsys.readouterr().err
        assert "no scheduler answers at 'tcp://127.0.0.1:1'" in said
        assert len(said.splitlines()) == 1

    @pytest.mark.parametrize(
        ("arguments", "words"),
        [
            (["score", "--workers", "2"], "--workers starts processes here"),
            (["train-members", "--workers", "2"], "--workers starts processes here"),
            (["train-members", "--device", "cpu"], "--device is of this machine"),
        ],
    )
    def test_options_that_do_not_go_together(self, capsys, arguments, words):
        assert run_command([*arguments, "--cluster", "tcp://127.0.0.1:1"]) == 2
        assert words in capsys.readouterr().err


# In a process of its own: under pytest functions are wrapped by type checks, which no parcel takes.
SENT = """
import pickle

import numpy as np

from ensemble.fusion import LearnedFusion, TrainingBlock, fuse_block
from ensemble.strategies import STRATEGIES
from evaluation.core.function_pickle import pack
from postproc.chain import parse_chain
from postproc.step import FitBlock, LearnedStep
from postproc.steps import STEPS

QUICK = {
    "stacking_boosted": "stacking_boosted(rounds=2)",
    "stacking_conv": "stacking_conv(width=4, steps=2)",
    "crf": "crf(iterations=1)",
}

rng = np.random.default_rng(0)
target = rng.integers(0, 3, (6, 8, 8), dtype=np.uint8)
maps = rng.dirichlet(np.ones(3), (2, 6, 8, 8)).transpose(0, 1, 4, 2, 3).astype(np.float32)
images = rng.integers(0, 256, (6, 1, 8, 8), dtype=np.uint8)


def same(name, function, *arguments):
    here = function(*arguments)
    there = pickle.loads(pickle.dumps(pack(function)))(*arguments)
    assert np.array_equal(here, there), name
    print(name)


for name in STRATEGIES:
    spec, kinds = QUICK.get(name, name), ("probabilities",) * 2
    fusion = STRATEGIES.build(spec, classes=3, ignore=0, floor=1e-3, seed=0, kinds=kinds)
    if isinstance(fusion, LearnedFusion):
        fusion = fusion.fit([TrainingBlock(maps, target, images)])
    same(name, lambda maps, seen: fuse_block(fusion, maps, seen), maps, images)
for name in STEPS:
    chain = parse_chain(QUICK.get(name, name), classes=3, ignore=0)
    for place, step in enumerate(chain.steps):
        if isinstance(step, LearnedStep):
            chain = chain.replace_step(place, step.fit([FitBlock(maps[0], target)]))
    same(name, lambda maps, seen: chain(maps, seen), maps[0], images)
"""


@pytest.mark.slow
def test_every_strategy_and_step():
    from ensemble.strategies import STRATEGIES
    from postproc.steps import STEPS

    said = subprocess.run([sys.executable, "-c", SENT], capture_output=True, text=True, check=False)
    assert said.returncode == 0, said.stderr
    assert said.stdout.split() == [*STRATEGIES, *STEPS]
