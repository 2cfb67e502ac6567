"""The timing loop: sides take turns, and the figures are those of the clock."""

import itertools

import pytest

from ensemble.pipeline.bench.timing import compared, in_turns, machine


def test_sides_take_turns_and_each_begins_as_often():
    order = []
    sides = {name: lambda name=name: order.append(name) for name in "abc"}
    in_turns(sides, rounds=6)
    rounds = ["".join(order[start : start + 3]) for start in range(0, len(order), 3)]
    assert rounds == ["abc", "abc", "bca", "cab", "abc", "bca", "cab"]


def test_a_round_of_warming_is_not_counted():
    ticks = itertools.count()
    now = [0.0]

    def slow_at_first():
        now[0] += 100.0 if next(ticks) == 0 else 2.0

    def quick():
        now[0] += 1.0

    seconds = in_turns({"slow": slow_at_first, "quick": quick}, 3, clock=lambda: now[0])
    assert seconds == {"slow": [2.0] * 3, "quick": [1.0] * 3}
    found = compared(seconds, "quick")
    assert found["slow"]["ratio"] == pytest.approx(2)
    assert found["quick"] == {
        "median_s": 1.0,
        "minimum_s": 1.0,
        "ratio": 1.0,
        "ratio_of_minima": 1.0,
    }


def test_ratios_are_of_medians():
    found = compared({"a": [1.0, 9.0, 2.0], "b": [4.0, 4.0, 1.0]}, "a")
    assert found["b"]["ratio"] == 2
    assert found["b"]["ratio_of_minima"] == 1


def test_a_machine_says_what_it_is():
    assert {"processor", "cores", "load", "numpy", "torch", "ens"} <= set(machine())
