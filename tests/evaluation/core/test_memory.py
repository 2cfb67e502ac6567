"""The budget of memory: how it is read, and that only the number of blocks in progress follows."""

import pytest

from evaluation.core import memory
from evaluation.core.errors import BadSpec
from evaluation.core.memory import blocks_at_a_time, memory_budget, memory_limit, parse_size
from evaluation.core.ragged import Extent

PHOTO, TILE = (1024, 2048), (64, 128)


@pytest.mark.parametrize(
    ("text", "size"),
    [("2GB", 2 * 10**9), ("500 mb", 5 * 10**8), ("1.5GiB", 3 * 2**29), ("1KB", 1000)],
)
def test_a_size_is_a_number_with_a_unit(text, size):
    assert parse_size(text) == size


@pytest.mark.parametrize(
    "text", ["", "2", "GB", "-1GB", "0MB", "0.0001KB", "2 G", "nanGB", "1e9GB", "²GB"]
)
def test_anything_else_is_refused_with_an_example(text):
    with pytest.raises(BadSpec, match=r"expected a number with a unit, such as 2GB or 500MB"):
        parse_size(text)


def test_the_default_is_a_quarter_of_what_is_free(monkeypatch):
    monkeypatch.setattr(memory, "free_bytes", lambda: 4000)
    assert memory_budget() == 1000
    with memory_limit(7):
        assert memory_budget() == 7
        with memory_limit(None):
            assert memory_budget() == 1000
    assert memory_budget() == 1000


@pytest.mark.parametrize(
    ("budget", "size", "expected"),
    [(1, PHOTO, 1), (3 * 100 * 2**21, PHOTO, 3), (10**12, PHOTO, 8), (3 * 100 * 2**19, TILE, 3)],
)
def test_blocks_at_a_time_fit_into_the_budget(budget, size, expected, monkeypatch):
    monkeypatch.setattr("os.cpu_count", lambda: 8)
    with memory_limit(budget):
        assert blocks_at_a_time(Extent.uniform(1000, size), 100) == expected


def test_without_a_list_of_memory_the_free_pages_are_counted(monkeypatch, tmp_path):
    monkeypatch.setattr(memory, "MEMINFO", tmp_path / "none")
    pages = {"SC_AVPHYS_PAGES": 7, "SC_PAGE_SIZE": 4096}
    monkeypatch.setattr("os.sysconf", pages.__getitem__)
    assert memory.free_bytes() == 7 * 4096
