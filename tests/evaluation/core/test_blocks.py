"""Blocks: they cover all images once, in order, few at a time."""

import threading
import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from evaluation.core.blocks import (
    blocks,
    map_blocks,
    pairwise_reduce,
    sum_blocks,
)
from evaluation.core.errors import BadLabels

law = settings(max_examples=25, deadline=None)
numbers = st.integers(0, 50)
sizes = st.integers(1, 12)
threads = st.integers(1, 4)


class TestLaws:
    @law
    @given(numbers, sizes)
    def test_every_image_is_in_one_block(self, images, size):
        covered = [i for block in blocks(images, size) for i in range(images)[block]]
        assert covered == list(range(images))

    @law
    @given(numbers, sizes)
    def test_all_blocks_but_the_last_are_full(self, images, size):
        lengths = [block.stop - block.start for block in blocks(images, size)]
        assert all(length == size for length in lengths[:-1])
        assert all(1 <= length <= size for length in lengths)

    @law
    @given(numbers, sizes, threads)
    def test_results_come_in_the_order_of_the_blocks(self, images, size, workers):
        def work(block):
            time.sleep(0.001 * (block.start % 3))
            return block

        assert list(map_blocks(work, images, size=size, threads=workers)) == blocks(images, size)


@pytest.mark.parametrize("workers", [1, 3])
def test_blocks_do_not_run_far_ahead_of_a_slow_consumer(workers):
    started = []
    results = map_blocks(started.append, 100, size=1, threads=workers)
    for taken, _ in enumerate(results, start=1):
        time.sleep(0.001)
        assert len(started) <= taken + 2 * workers


def test_several_threads_work_at_once():
    together = threading.Barrier(2, timeout=5)
    assert len(list(map_blocks(lambda _: together.wait(), 4, size=1, threads=2))) == 4


def test_an_error_in_a_block_reaches_the_consumer_and_ends_the_work():
    started = []

    def work(block):
        started.append(block.start)
        raise KeyError(block.start)

    with pytest.raises(KeyError, match="0"):
        list(map_blocks(work, 1000, size=1, threads=2))
    assert len(started) <= 4


def test_a_consumer_that_stops_early_ends_the_work():
    started = []
    results = map_blocks(lambda block: started.append(block.start), 1000, size=1, threads=2)
    next(results)
    results.close()
    assert len(started) <= 5


def bracketed(count):
    return pairwise_reduce(map(str, range(count)), lambda earlier, later: f"({earlier}+{later})")


class TestSums:
    @pytest.mark.parametrize(
        ("count", "expected"),
        [
            (1, "0"),
            (2, "(0+1)"),
            (3, "((0+1)+2)"),
            (6, "(((0+1)+(2+3))+(4+5))"),
            (7, "(((0+1)+(2+3))+((4+5)+6))"),
        ],
    )
    def test_sums_add_neighbours_and_neighbouring_sums(self, count, expected):
        assert bracketed(count) == expected

    @law
    @given(st.integers(1, 40), sizes, threads)
    def test_sums_have_the_same_bits_for_any_number_of_threads(self, images, size, workers):
        values = np.random.default_rng(images).random((images, 3)).astype(np.float32)

        def work(block):
            time.sleep(0.001 * (block.start % 3))
            return values[block].sum(axis=0)

        result = sum_blocks(work, images, size=size, threads=workers)
        expected = pairwise_reduce(
            [values[block].sum(axis=0) for block in blocks(images, size)], np.add
        )
        assert result.tobytes() == expected.tobytes()
        np.testing.assert_allclose(result, values.sum(axis=0), rtol=1e-5)

    def test_sums_over_no_images_are_the_function_of_an_empty_block(self):
        values = np.ones((0, 3))
        assert sum_blocks(lambda block: values[block].sum(axis=0), 0).tolist() == [0, 0, 0]

    def test_at_most_one_partial_sum_is_kept_per_power_of_two(self):
        living, most = [0], [0]

        class Part:
            def __init__(self):
                living[0] += 1
                most[0] = max(most[0], living[0])

            def __add__(self, other):
                return Part()

            def __del__(self):
                living[0] -= 1

        pairwise_reduce((Part() for _ in range(1000)), lambda earlier, later: earlier + later)
        assert most[0] <= 10 + 2

    def test_sums_name_the_block_that_fails(self):
        with pytest.raises(ZeroDivisionError) as caught:
            sum_blocks(lambda block: 1 // (block.start - 4), 9, size=2)
        assert caught.value.__notes__ == ["block 4:6"]


def refuse(block):
    if block.stop > 4:
        raise BadLabels("target holds 9; expected 0 to 4")
    return block


class TestAnErrorOfABlock:
    def test_an_error_names_its_block(self):
        with pytest.raises(BadLabels) as caught:
            list(map_blocks(refuse, 9, size=2))
        assert str(caught.value) == "target holds 9; expected 0 to 4 (block 4:6)"

    def test_with_one_block_an_error_names_none(self):
        with pytest.raises(BadLabels) as caught:
            list(map_blocks(refuse, 9))
        assert str(caught.value) == "target holds 9; expected 0 to 4"

    def test_a_bug_names_its_block_after_the_traceback(self):
        with pytest.raises(ZeroDivisionError) as caught:
            list(map_blocks(lambda block: 1 // (block.start - 4), 9, size=2))
        assert caught.value.__notes__ == ["block 4:6"]
