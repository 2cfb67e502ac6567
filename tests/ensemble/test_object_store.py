"""Maps in an object store: results are those of a run folder, and nothing is left or lost there."""

import contextlib
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import yaml
import zarr

from ensemble.cli import run_command
from ensemble.pipeline.run.open_run import run_experiment
from ensemble.pipeline.run.store_location import store_urls
from evaluation.core import cluster
from evaluation.core.cluster import on_cluster
from evaluation.core.provenance import digest_of
from evaluation.core.run_folder import Run
from members import chunks, object_store
from members import jobs as jobs_there
from members.data.sample import draw_sample
from members.object_store import read_tail, sizes_under, write_object
from members.store import ProbabilityStore
from members.store_metadata import META
from tests.ensemble.buckets import (
    URL,
    a_bucket,
    found,
    home_of,
    in_bucket,
    named,
    url_of,
)
from tests.ensemble.clusters import killing, without_checks, write_members

pytestmark = pytest.mark.slow

PAGE = (Path(__file__).parents[2] / "docs" / "cluster.md").read_text()
EXAMPLE = re.search(r"## In an object store.*?```sh\n(.*?)```", PAGE, re.DOTALL)[1]
VERBS = [shlex.split(line)[1:] for line in EXAMPLE.splitlines() if line.startswith("ens ")]
TINY = "unet(width=2, depth=1)"


@pytest.fixture(scope="module", autouse=True)
def _server():
    with a_bucket():
        yield


@pytest.fixture(autouse=True)
def _plain_functions(monkeypatch):
    without_checks(monkeypatch)


@pytest.fixture(scope="module")
def local(tmp_path_factory):
    """A run with the maps of two members in its folder."""
    return write_members(tmp_path_factory.mktemp("runs") / "two")


@pytest.fixture
def remote(local, tmp_path):
    """The same run with its maps in the bucket."""
    return in_bucket(local, tmp_path / "run")


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A run with a trained network and its maps in its folder; beside it lies the experiment."""
    folder = tmp_path_factory.mktemp("trained")
    sample = draw_sample(images=140, test=4, validation=20, size=(16, 16)).save(folder)
    asked = {"data": str(sample[0]), "validation": str(sample[1]), "folds": 2}
    asked |= {"defaults": {"epochs": 1}, "members": {"one": {"architecture": TINY}}}
    (folder / "experiment.yaml").write_text(yaml.safe_dump(asked))
    at = Run(folder / "here")
    assert run_command(training(at, folder / "experiment.yaml")) == 0
    return at


def training(at, experiment):
    words = ("train-members", "--experiment", experiment, "--workers", "1", "--run", at.path)
    return [str(word) for word in words]


@pytest.fixture(scope="module")
def by_threads(local, tmp_path_factory):
    """What the commands make of the run in its folder."""
    at = Run(tmp_path_factory.mktemp("threads") / "run")
    shutil.copytree(local, at.path)
    return walked(at)


@pytest.fixture(scope="module")
def two(_server):
    """Two worker processes."""
    with on_cluster(workers=2) as found:
        cluster._CURRENT.set(None)
        yield found


@pytest.fixture
def by_both(two):
    """What sends work to the two, as long as the context lasts."""

    @contextlib.contextmanager
    def sending():
        token = cluster._CURRENT.set(two)
        try:
            yield
        finally:
            cluster._CURRENT.reset(token)

    return sending


def dying_in_prediction(monkeypatch, grave):
    """Let the first worker that predicts `oof` kill itself once a chunk is in the bucket."""
    submit = jobs_there.submit_job

    def strike():
        left = ["the header", "a chunk"]

        def write_or_die(url, content):
            if not left:
                os.kill(os.getpid(), signal.SIGKILL)
            left.pop()
            write_object(url, content)

        chunks.write_object = write_or_die

    def dying(job):
        def work(device):
            if not grave.exists():
                grave.touch()
                strike()
            return job(device)

        return work

    def submit_dying(there, job):
        return submit(there, dying(job) if job.name == "one oof" else job)

    monkeypatch.setattr(jobs_there, "submit_job", submit_dying)


def walked(at):
    """Fuse, post-process and score, and return what came out."""
    for words in VERBS[1:]:
        assert run_command(placed(words[:-2], RUN=at.path)) == 0
    return found(at)


def maps_of(kind, there):
    """Return what is there of the members' maps, or of fusions."""
    return {name: content for name, content in there.items() if name.startswith(kind)}


def placed(words, **places):
    return [str(places.get(word, word)) for word in words]


class TestResults:
    def test_are_those_of_the_folder(self, remote, by_threads):
        assert walked(remote) == by_threads
        assert not list(remote.path.rglob("maps.zarr"))
        assert named(remote)[0] == named(remote)[1]

    def test_of_the_page_are_those_of_the_folder_though_workers_are_killed_that_write(
        self, trained, two, by_both, monkeypatch, tmp_path
    ):
        monkeypatch.chdir(trained.path.parent)
        dying_in_prediction(monkeypatch, tmp_path / "grave")
        living, killed = killing(monkeypatch)
        there = Run(Path("there"))
        with by_both():
            for words in VERBS:
                if words[0] == "fuse":
                    living.extend(two._client.run(os.getpid).values())
                assert run_command(placed(words[:-2], RUN=there.path)) == 0
        assert (tmp_path / "grave").exists()
        assert len(killed) == 1
        for words in VERBS[1:]:
            assert run_command(placed(words[:-2], RUN=trained.path)) == 0
        assert found(there) == found(trained)
        assert run_experiment(there).store == URL
        assert named(there)[0] == named(there)[1]

    def test_imported_maps_are_those_that_were_given(self, trained, tmp_path):
        given = trained.probabilities("one", "validation")
        np.save(tmp_path / "maps.npy", ProbabilityStore(given).read(slice(None)))
        asked, at = run_experiment(trained), Run(tmp_path / "run")
        data = ["--data", asked.data, "--validation", asked.validation]
        words = ["--store", URL, "--as-is", "--name", "theirs", "--split", "validation", "--run"]
        assert (
            run_command(["import", str(tmp_path / "maps.npy"), *map(str, [*data, *words, at.path])])
            == 0
        )
        there = ProbabilityStore(at.probabilities("theirs", "validation"))
        assert url_of(there.folder).startswith(home_of(at))
        given = np.load(tmp_path / "maps.npy")
        np.testing.assert_allclose(there.read(slice(None)), given, atol=3e-4)

    def test_zarr_alone_reads_the_same(self, remote):
        folder = remote.probabilities("one", "oof")
        files = object_store._files("s3", os.getpid())
        path = url_of(folder).partition("://")[2]
        content = {
            name: zarr.core.buffer.cpu.Buffer.from_bytes(files.cat_file(f"{path}/{name}"))
            for name in sizes_under(url_of(folder))
        }
        alone = zarr.open_array(zarr.storage.MemoryStore(content), mode="r")[:]
        maps = ProbabilityStore(folder).read(slice(None))
        np.testing.assert_array_equal(maps, alone.astype(np.float32))


KILLED = """
import os, signal, sys
from ensemble.cli import run_command
from members import chunks

write, number = chunks.write_object, int(sys.argv[1])

def write_or_die(url, content):
    global number
    number -= 1
    if not number:
        os.kill(os.getpid(), signal.SIGKILL)
    write(url, content)

chunks.write_object = write_or_die
run_command(sys.argv[2:])
"""


class TestWhatIsLeft:
    def test_a_killed_fusion_is_made_again_and_leaves_nothing(self, remote, by_threads):
        words = placed(VERBS[1][:-2], RUN=remote.path)
        # The header and all four blocks of `oof` are there, and some of `validation`.
        code = [sys.executable, "-c", KILLED, "8", *words]
        assert subprocess.run(code, capture_output=True).returncode == -signal.SIGKILL
        wanted, there = named(remote)
        assert len(wanted & there) == 5 + 1  # half made, beside
        assert run_command(words) == 0
        assert maps_of("fused", found(remote)) == maps_of("fused", by_threads)
        assert named(remote)[0] == named(remote)[1] != set()

    def test_a_killed_prediction_goes_on_where_it_stood(self, trained, tmp_path, monkeypatch):
        at = Run(tmp_path / "run")
        words = training(at, trained.path.parent / "experiment.yaml")
        written = []

        class Killed(BaseException):
            pass

        def write(url, content):
            written.append(url)
            write_object(url, content)

        def write_or_die(url, content):
            if len(written) == 3:
                raise Killed
            write(url, content)

        with monkeypatch.context() as patch:
            patch.setattr("members.chunks.write_object", write_or_die)
            with pytest.raises(Killed):
                run_command([*words, "--store", URL])
        write_object(f"{home_of(at)}/gone-{'0' * 12}/c/0/0/0/0", b"left by another")
        with monkeypatch.context() as patch:
            patch.setattr("members.chunks.write_object", write)
            assert run_command([*words, "--store", URL]) == 0
        assert len(written) == len(set(written))
        assert maps_of("probabilities", found(at)) == maps_of("probabilities", found(trained))
        assert named(at)[0] == named(at)[1]

    def test_what_replaces_maps_removes_them_and_what_was_made_of_them_is_stale(
        self, remote, capsys
    ):
        words = placed(["fuse", "--strategy", "mean", "--run", "RUN"], RUN=remote.path)
        assert run_command(words) == 0
        before = url_of(remote.fused("mean", "oof"))
        folder = remote.probabilities("one", "oof")
        record = folder / "provenance.json"
        record.write_text(record.read_text().replace('"one"', '"another"'))
        capsys.readouterr()
        assert run_command(["status", "--run", str(remote.path)]) == 0
        assert re.search(r"^fusion +mean .* stale: oof", capsys.readouterr().out, re.MULTILINE)
        assert run_command(words) == 0
        assert not sizes_under(before)
        assert named(remote)[0] == named(remote)[1]

    def test_a_copy_reads_what_the_original_has_and_never_removes_it(self, remote, tmp_path):
        words = ["fuse", "--strategy", "mean", "--run"]
        assert run_command([*words, str(remote.path)]) == 0
        copy = Run(tmp_path / "copy")
        shutil.copytree(remote.path, copy.path)
        original = digest_of(sorted(sizes_under(home_of(remote))))
        shutil.rmtree(copy.fused("mean", "oof"))
        assert run_command([*words, str(copy.path)]) == 0
        assert digest_of(sorted(sizes_under(home_of(remote)))) == original
        assert home_of(copy) != home_of(remote)
        assert len(named(copy)[1]) == 1
        moved = Run(tmp_path / "moved")
        copy.path.rename(moved.path)
        before = home_of(moved)
        assert run_command([*words, str(moved.path), "--name", "again"]) == 0
        assert home_of(moved) != before

    def test_where_a_store_cannot_be_read_nothing_is_removed(self, remote):
        url = url_of(remote.probabilities("one", "oof"))
        document = remote.probabilities("one", "oof") / META
        whole = document.read_text()
        document.write_text(whole[:-20])
        with store_urls(remote, URL):
            pass
        document.write_text(whole)
        assert sizes_under(url)


def test_the_end_of_an_object_is_read_alone():
    write_object(f"{URL}/tail", b"many bytes and the end")
    assert read_tail(f"{URL}/tail", 7) == b"the end"
