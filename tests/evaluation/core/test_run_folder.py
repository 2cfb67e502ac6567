"""The lock of a run folder, and which run is the newest."""

import os
import subprocess
import sys

import pytest

from evaluation.core.errors import BadRun
from evaluation.core.files import HOST, atomic_file
from evaluation.core.run_folder import newest_run, run_lock


@pytest.fixture
def a_dead_pid():
    child = subprocess.Popen([sys.executable, "-S", "-c", ""])
    child.wait()
    return child.pid


def test_a_second_writer_is_refused_until_the_first_is_done(tmp_path):
    run = tmp_path / "run"
    with run_lock(run), pytest.raises(BadRun, match="is being written by another ens"):
        run_lock(run).__enter__()
    with run_lock(run):
        pass


def test_a_writer_that_fails_releases_the_lock(tmp_path):
    def fail():
        with run_lock(tmp_path):
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    with run_lock(tmp_path):
        pass


def test_the_lock_removes_temps_of_dead_processes_only(tmp_path, a_dead_pid):
    def left(pid, kind="partial"):
        return f".labels.npy.{HOST}-{pid}-0123456789ab.{kind}"

    (tmp_path / "a" / left(a_dead_pid)).mkdir(parents=True)
    (tmp_path / "a" / left(a_dead_pid) / "half").touch()
    (tmp_path / "a" / left(os.getppid())).touch()
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / left(a_dead_pid, "old")).touch()
    (tmp_path / "b" / ".mine.partial").touch()
    with run_lock(tmp_path):
        assert [p.name for p in (tmp_path / "a").iterdir()] == [left(os.getppid())]
        # Its successor never came, so what was to be replaced is back.
        assert {p.name for p in (tmp_path / "b").iterdir()} == {"labels.npy", ".mine.partial"}


def test_writing_a_file_removes_its_own_stale_temps(tmp_path, a_dead_pid):
    for name in ("a.csv", "b.csv"):
        (tmp_path / f".{name}.{HOST}-{a_dead_pid}-0123456789ab.partial.csv").touch()
    (tmp_path / f".a.csv.ffffffff-{a_dead_pid}-0123456789ab.partial.csv").touch()
    with atomic_file(tmp_path / "a.csv") as partial:
        partial.touch()
    kept = {p.name.split(f"{a_dead_pid}")[0] for p in tmp_path.iterdir()}
    assert kept == {"a.csv", f".b.csv.{HOST}-", ".a.csv.ffffffff-"}


def test_the_newest_run_is_the_one_whose_data_changed_last(tmp_path):
    for seconds, name in ((3, "first"), (9, "last"), (6, "middle")):
        (tmp_path / name / "data").mkdir(parents=True)
        os.utime(tmp_path / name / "data", (seconds, seconds))
    (tmp_path / "no run").mkdir()
    assert newest_run(tmp_path).path == tmp_path / "last"


@pytest.mark.parametrize("name", [".", "nowhere"])
def test_without_a_run_the_error_says_how_to_start(tmp_path, name):
    with pytest.raises(BadRun, match=r"no run under .*start with `ens train-members`"):
        newest_run(tmp_path / name)
