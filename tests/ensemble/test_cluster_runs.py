"""A whole experiment, and sums over blocks, on a Dask cluster."""

import operator
import os
import signal

import numpy as np
import pytest
from click.testing import CliRunner

from ensemble.cli import ens, run_command
from evaluation.core import cluster
from evaluation.core.blocks import blocks, pairwise_reduce, sum_blocks
from evaluation.core.cluster import MappedFunction
from evaluation.core.errors import BadLabels
from members.data.sample import draw_sample
from tests.ensemble.clusters import processes, sent_to
from tests.faults.trees import contents, differing

pytestmark = pytest.mark.slow

EXPERIMENT = """
data: training.npz
validation: validation.npz
folds: 2
defaults: {epochs: 1, architecture: 'unet(width=2, depth=1)'}
members: {one: {}, two: {loss: dice}}
fusions: {calibrated: 'weighted_mean(calibrate=temperature)'}
chains: {tuned: 'class_bias|remove_small(min_area_px=4)'}
"""


@pytest.fixture(scope="module")
def workers():
    with processes(2) as found:
        yield found


@pytest.fixture
def two(workers):
    """Two worker processes, to which this test's work goes."""
    with sent_to(workers):
        yield workers


def test_a_whole_run_has_the_bits_of_one_without_a_cluster(workers, tmp_path):
    sample = draw_sample(images=140, test=9, validation=70, size=(16, 16)).save(tmp_path / "drawn")
    for name, file in zip(("training", "validation"), sample, strict=True):
        file.rename(tmp_path / f"{name}.npz")
    file = tmp_path / "run.yaml"
    file.write_text(EXPERIMENT)
    for where, options in (
        ("here", ["--workers", "1"]),
        ("there", ["--cluster", workers._client.scheduler.address]),
    ):
        assert (
            run_command(["run", str(file), "--run", str(tmp_path / where / "run"), *options]) == 0
        )
    assert differing(contents(tmp_path / "there"), contents(tmp_path / "here")) == []


@pytest.mark.parametrize("verb", ["run", "demo", "search-loss"])
def test_verbs_that_train_take_an_address(verb):
    assert "--cluster ADDRESS" in CliRunner().invoke(ens, [verb, "--help"]).output


def counted(monkeypatch, owner, name):
    """Return a list that grows with each call of a method."""
    method, calls = getattr(owner, name), []

    def call(*arguments):
        calls.append(arguments)
        return method(*arguments)

    monkeypatch.setattr(owner, name, call)
    return calls


class TestSums:
    def test_have_the_bits_of_the_threads(self, two):
        values = np.random.default_rng(0).random((23, 3)).astype(np.float32)

        def work(block):
            return values[block].sum(axis=0)

        expected = pairwise_reduce([work(block) for block in blocks(23, 2)], operator.add)
        assert sum_blocks(work, 23, size=2).tobytes() == expected.tobytes()

    def test_are_added_there_and_only_the_last_comes_back(self, two, monkeypatch):
        came = counted(monkeypatch, cluster.ClusterTask, "result")
        added = counted(monkeypatch, MappedFunction, "add")
        assert sum_blocks(lambda block: block.stop - block.start, 100, size=9) == 100
        assert (len(came), len(added)) == (1, 11)

    def test_begin_few_blocks_at_a_time(self, two, monkeypatch):
        waiting, begun = counted(monkeypatch, MappedFunction, "submit"), []
        settled = cluster.ClusterTask.wait

        def settle(task):
            begun.append(len(waiting))
            waiting.pop()
            return settled(task)

        monkeypatch.setattr(cluster.ClusterTask, "wait", settle)
        sum_blocks(lambda block: 1, 100, size=1)
        assert max(begun) <= 2 * two.width
        assert len(begun) == 100

    def test_survive_a_worker_that_holds_some_of_them(self, two, monkeypatch):
        submit, living = MappedFunction.submit, list(two._client.run(os.getpid).values())

        def submit_and_kill(self, block):
            if block.start == 40:
                os.kill(living[0], signal.SIGKILL)
            return submit(self, block)

        monkeypatch.setattr(MappedFunction, "submit", submit_and_kill)
        assert sum_blocks(lambda block: block.start, 64, size=1) == 63 * 64 / 2

    def test_name_the_block_that_fails(self, two):
        def work(block):
            if block.start == 4:
                raise BadLabels("target holds 9; expected 0 to 4")
            return 1

        with pytest.raises(BadLabels) as caught:
            sum_blocks(work, 9, size=2)
        assert str(caught.value) == "target holds 9; expected 0 to 4 (block 4:6)"
