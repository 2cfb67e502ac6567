"""Blocks: they cover all pictures once, in order, few at a time."""

import threading
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from evaluation.ground.blocks import blocks, map_blocks

law = settings(max_examples=25, deadline=None)
numbers = st.integers(0, 50)
sizes = st.integers(1, 12)
threads = st.integers(1, 4)


class TestLaws:
    @law
    @given(numbers, sizes)
    def test_every_picture_is_in_one_block(self, pictures, size):
        covered = [i for block in blocks(pictures, size) for i in range(pictures)[block]]
        assert covered == list(range(pictures))

    @law
    @given(numbers, sizes)
    def test_all_blocks_but_the_last_are_full(self, pictures, size):
        lengths = [block.stop - block.start for block in blocks(pictures, size)]
        assert all(length == size for length in lengths[:-1])
        assert all(1 <= length <= size for length in lengths)

    @law
    @given(numbers, sizes, threads)
    def test_results_come_in_the_order_of_the_blocks(self, pictures, size, workers):
        def work(block):
            time.sleep(0.001 * (block.start % 3))
            return block

        assert list(map_blocks(work, pictures, size=size, threads=workers)) == blocks(
            pictures, size
        )


@pytest.mark.parametrize("workers", [1, 3])
def test_a_slow_reader_is_not_run_ahead_of(workers):
    started = []
    results = map_blocks(started.append, 100, size=1, threads=workers)
    for taken, _ in enumerate(results, start=1):
        time.sleep(0.001)
        assert len(started) <= taken + 2 * workers


def test_several_threads_work_at_once():
    together = threading.Barrier(2, timeout=5)
    assert len(list(map_blocks(lambda _: together.wait(), 4, size=1, threads=2))) == 4


def test_an_error_in_a_block_reaches_the_reader_and_ends_the_work():
    started = []

    def work(block):
        started.append(block.start)
        raise KeyError(block.start)

    with pytest.raises(KeyError, match="0"):
        list(map_blocks(work, 1000, size=1, threads=2))
    assert len(started) <= 4


def test_a_reader_that_stops_early_ends_the_work():
    started = []
    results = map_blocks(lambda block: started.append(block.start), 1000, size=1, threads=2)
    next(results)
    results.close()
    assert len(started) <= 5
