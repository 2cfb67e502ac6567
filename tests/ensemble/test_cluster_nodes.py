"""Nodes that are lost, join late or fall silent while a cluster works."""

import shutil
import signal
import time

import pytest

from ensemble.cli import run_command
from evaluation.core.cluster import Cluster, MappedFunction, on_cluster
from members.data.sample import draw_sample
from tests.ensemble.clusters import (
    by_hand,
    results,
    without_checks,
    write_members,
)
from tests.faults.trees import contents, differing

pytestmark = pytest.mark.slow

NODE_COMMANDS = [
    ["fuse", "--strategy", "weighted_mean"],
    [
        "postprocess",
        "--fusion",
        "weighted_mean",
        "--chain",
        "class_bias|remove_small(min_area_px=4)",
    ],
    ["score"],
]


@pytest.fixture(autouse=True)
def _plain_functions(monkeypatch):
    without_checks(monkeypatch)


@pytest.fixture(scope="module")
def node_members(tmp_path_factory):
    return write_members(tmp_path_factory.mktemp("runs") / "two")


@pytest.fixture(scope="module")
def node_by_threads(node_members, tmp_path_factory):
    folder = tmp_path_factory.mktemp("threads") / "run"
    return node_results(node_members, folder)


def node_results(node_members, folder, during=lambda verb: None):
    """Copy a run and do the verbs in it, wherever `on_cluster` says."""
    shutil.copytree(node_members, folder)
    for words in NODE_COMMANDS:
        during(words[0])
        assert run_command([*words, "--run", str(folder)]) == 0
    return results(folder)


@pytest.fixture
def befall(monkeypatch):
    """Return what lets something happen once a verb has sent so many blocks."""
    submit, planned = MappedFunction.submit, []

    def submit_and_more(self, block):
        task = submit(self, block)
        if planned:
            planned[0][0] -= 1
            if not planned[0][0]:
                planned.pop()[1]()
        return task

    monkeypatch.setattr(MappedFunction, "submit", submit_and_more)

    def befall(blocks, what):
        planned[:] = [[blocks, what]]

    return befall, planned


def test_nodes_that_are_lost_and_join_change_nothing(
    node_members, node_by_threads, tmp_path, befall
):
    """One of two nodes is lost in the first verb, the other in the second, where a third comes."""
    later, planned = befall
    with by_hand() as (address, node), on_cluster(address) as there:
        first, second = node(2), node(1)
        there._client.wait_for_workers(3, timeout=60)
        happens = {
            "fuse": lambda: first.send(signal.SIGKILL),
            "postprocess": lambda: (second.send(signal.SIGKILL), node(1)),
        }
        found = node_results(
            node_members, tmp_path / "run", lambda verb: verb in happens and later(3, happens[verb])
        )
        assert not planned
    assert found == node_by_threads


def test_a_node_that_falls_silent_is_given_up(node_members, node_by_threads, tmp_path, befall):
    later, planned = befall
    with (
        by_hand(DASK_DISTRIBUTED__SCHEDULER__WORKER_TTL="2s") as (address, node),
        on_cluster(address) as there,
    ):
        silent, _ = node(1, "--no-nanny"), node(1)  # a nanny has 30 s more to answer in
        there._client.wait_for_workers(2, timeout=60)
        later(3, lambda: silent.send(signal.SIGSTOP))
        found = node_results(node_members, tmp_path / "run")
        assert not planned
    assert found == node_by_threads


@pytest.mark.usefixtures("drawn")  # as the node does, in whose process there is no fixture
def test_a_node_that_is_lost_while_it_trains_changes_nothing(tmp_path, monkeypatch):
    sample = draw_sample(images=80, test=4, validation=20, size=(16, 16)).save(tmp_path)
    words = ["train-members", "--data", str(sample[0]), "--validation", str(sample[1])]
    words += ["--folds", "2", "--epochs", "1", "--member", "net=unet(width=2, depth=1)"]
    assert run_command([*words, "--workers", "1", "--run", str(tmp_path / "here" / "run")]) == 0
    ended, killed = Cluster.ended, []

    def kill_and_wait(self, tasks):
        while not killed and not list((tmp_path / "there").rglob("*.partial*")):
            time.sleep(0.005)
        if not killed:
            node(1)
            first.send(signal.SIGKILL)
            killed.append(first)
        return ended(self, tasks)

    monkeypatch.setattr(Cluster, "ended", kill_and_wait)
    with by_hand() as (address, node), on_cluster(address) as there:
        first = node(2)
        there._client.wait_for_workers(2, timeout=60)
        assert run_command([*words, "--run", str(tmp_path / "there" / "run")]) == 0
    assert killed
    assert differing(contents(tmp_path / "there"), contents(tmp_path / "here")) == []
