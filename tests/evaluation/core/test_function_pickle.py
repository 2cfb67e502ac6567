"""Parcels: what is unpacked does what was packed, and no map travels by value."""

import os
import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from evaluation.core.errors import BadData
from evaluation.core.files import open_array
from evaluation.core.function_pickle import mmap_location, pack, reopen_mmap

SHAPE = (40, 30, 20)


@pytest.fixture
def mapped(tmp_path):
    values = np.arange(np.prod(SHAPE), dtype=np.float32).reshape(SHAPE)
    np.save(tmp_path / "a.npy", values)
    return open_array(tmp_path / "a.npy")


def arrived(thing):
    """Return what a function gives on the other side that only returns it."""
    return pickle.loads(pickle.dumps(pack(lambda: thing)))()


def cut(length):
    some = st.integers(-length, length)
    return st.slices(length) | st.builds(slice, some, some, st.sampled_from([-3, -1, 1, 2]))


class TestMaps:
    @settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
    @given(cuts=st.tuples(*map(cut, SHAPE)), axes=st.permutations(range(3)))
    def test_any_view_of_a_map_comes_back_equal(self, mapped, cuts, axes):
        view = mapped[cuts].transpose(axes)
        np.testing.assert_array_equal(arrived(view), view)

    @pytest.mark.parametrize(
        "view",
        [lambda a: a, lambda a: a[3:], lambda a: np.asarray(a)[::-1, None], lambda a: a.view("u1")],
        ids=["whole", "a slice", "a view that is no memmap", "another type"],
    )
    def test_a_memory_map_adds_nothing_to_the_pickle(self, mapped, view):
        assert len(pack(lambda: view(mapped)).packed) < 2000
        assert mmap_location(arrived(view(mapped))) == mmap_location(view(mapped))

    def test_what_is_written_through_a_map_is_in_the_file(self, tmp_path):
        array = np.lib.format.open_memmap(tmp_path / "b.npy", "w+", np.uint8, (9,))
        pack(array[4:].__setitem__)(slice(0, 2), 7)
        assert np.load(tmp_path / "b.npy").tolist() == [0] * 4 + [7] * 2 + [0] * 3

    def test_a_read_only_memory_map_stays_read_only(self, mapped):
        with pytest.raises(ValueError, match="read-only"):
            arrived(mapped)[0] = 1

    def test_a_map_of_an_unpacked_archive_is_pickled_by_value(self, tmp_path):
        np.savez(tmp_path / "a.npz", a=np.arange(5000))
        array = open_array(tmp_path / "a.npz")
        assert mmap_location(array) is None
        np.testing.assert_array_equal(arrived(array), np.arange(5000))

    def test_a_worker_that_does_not_see_the_file_says_so(self, tmp_path):
        with pytest.raises(BadData, match="workers must see the files under the same path"):
            reopen_mmap(str(tmp_path / "a.npy"), "r", "<f4", (2,), (4,), 0)

    def test_a_file_that_has_shrunk_is_refused(self, tmp_path):
        (tmp_path / "a").write_bytes(b"123")
        with pytest.raises(BadData, match="cannot be mapped"):
            reopen_mmap(str(tmp_path / "a"), "r", "<f4", (2,), (4,), 0)


class TestOtherThings:
    def test_paths_are_absolute(self, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        assert arrived(Path("runs/a")) == tmp_path / "runs" / "a"

    def test_a_function_is_unpacked_once(self):
        numbers = iter(range(9))
        parcel = pack(lambda: next(numbers))
        assert [parcel(), parcel(), parcel()] == [0, 1, 2]
        assert next(numbers) == 0

    def test_plugins_are_loaded_where_the_function_is_unpickled(self, tmp_path, monkeypatch):
        (tmp_path / "plugged.py").write_text('ENS_ENTRIES = {"thing": {"mine": "os:getpid"}}\n')
        monkeypatch.chdir(tmp_path)
        monkeypatch.setenv("ENS_PLUGINS", "plugged")

        def known():
            from evaluation.core.plugins import plugin_entries

            return plugin_entries("thing")

        (tmp_path / "parcel").write_bytes(pickle.dumps(pack(known)))
        there = "import pickle, sys; print(pickle.load(open(sys.argv[1], 'rb'))())"
        environment = {k: v for k, v in os.environ.items() if k != "ENS_PLUGINS"}
        command = [sys.executable, "-c", there, str(tmp_path / "parcel")]
        process = subprocess.run(
            command, cwd="/", env=environment, capture_output=True, text=True, check=False
        )
        assert process.stdout.strip() == "{'mine': 'os:getpid'}", process.stderr
