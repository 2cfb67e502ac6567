"""One writer at a time."""

import os
import subprocess
import sys

import pytest

from evaluation.core.errors import BadRun
from evaluation.core.files import HOST, atomic_file
from evaluation.core.run_folder import run_lock


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


def test_a_writer_that_fails_lets_go(tmp_path):
    def fail():
        with run_lock(tmp_path):
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    with run_lock(tmp_path):
        pass


def test_a_holder_clears_away_what_dead_ones_left_and_nothing_else(tmp_path, a_dead_pid):
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


def test_a_file_that_is_written_again_clears_its_own_leftovers_away(tmp_path, a_dead_pid):
    for name in ("a.csv", "b.csv"):
        (tmp_path / f".{name}.{HOST}-{a_dead_pid}-0123456789ab.partial.csv").touch()
    (tmp_path / f".a.csv.ffffffff-{a_dead_pid}-0123456789ab.partial.csv").touch()
    with atomic_file(tmp_path / "a.csv") as partial:
        partial.touch()
    kept = {p.name.split(f"{a_dead_pid}")[0] for p in tmp_path.iterdir()}
    assert kept == {"a.csv", f".b.csv.{HOST}-", ".a.csv.ffffffff-"}
