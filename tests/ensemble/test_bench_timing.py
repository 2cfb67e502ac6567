"""The timing loop: contenders take turns, and the figures are those of the clock."""

import itertools

import pytest

from ensemble.pipeline.bench.timing import compared, interleaved, machine


def test_contenders_take_turns_and_each_starts_equally_often():
    order = []
    contenders = {name: lambda name=name: order.append(name) for name in "abc"}
    interleaved(contenders, rounds=6)
    rounds = ["".join(order[start : start + 3]) for start in range(0, len(order), 3)]
    assert rounds == ["abc", "abc", "bca", "cab", "abc", "bca", "cab"]


def test_the_warm_up_round_is_not_counted():
    ticks = itertools.count()
    now = [0.0]

    def slow_at_first():
        now[0] += 100.0 if next(ticks) == 0 else 2.0

    def quick():
        now[0] += 1.0

    seconds = interleaved({"slow": slow_at_first, "quick": quick}, 3, clock=lambda: now[0])
    assert seconds == {"slow": [2.0] * 3, "quick": [1.0] * 3}
    ratios = compared(seconds, "quick")
    assert ratios["slow"]["ratio"] == pytest.approx(2)
    assert ratios["quick"] == {
        "median_s": 1.0,
        "minimum_s": 1.0,
        "ratio": 1.0,
        "ratio_of_minima": 1.0,
    }


def test_ratios_are_of_medians():
    ratios = compared({"a": [1.0, 9.0, 2.0], "b": [4.0, 4.0, 1.0]}, "a")
    assert ratios["b"]["ratio"] == 2
    assert ratios["b"]["ratio_of_minima"] == 1


def test_a_machine_is_described():
    assert {"processor", "cores", "load", "numpy", "torch", "ens"} <= set(machine())
