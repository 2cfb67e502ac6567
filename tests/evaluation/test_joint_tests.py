"""Tests of many candidates at once: the confidence set, max-T, and what copies cost."""

import itertools
import time

import numpy as np
import pytest
from scipy import stats

from evaluation.intervals import student_ends
from evaluation.joint_tests import JointTests

LEVEL = 0.95


def joint(scores, left_out, resamples=2_000):
    return JointTests.from_influences(
        np.asarray(scores, float),
        np.asarray(left_out, float),
        rng=np.random.default_rng(1),
        resamples=resamples,
    )


def sampled(scores, groups=40, seed=0, error=0.01):
    """Scores of independent candidates, and normal influences that give them about this error."""
    spread = np.random.default_rng(seed).normal(0, error / np.sqrt(groups), (len(scores), groups))
    return joint(scores, spread)


def test_of_two_candidates_p_is_that_of_students_test():
    tests = sampled([0.5, 0.52])
    error, freedom = tests.error_of(0, 1, np.inf)
    expected = 2 * stats.t.sf(0.02 / error, freedom)
    assert tests.set_p == pytest.approx([expected, 1], abs=0.03)
    assert tests.against(0, [1], level=LEVEL).p[1] == pytest.approx(expected, abs=0.03)


def test_of_two_candidates_the_interval_is_the_paired_one():
    tests = sampled([0.5, 0.52])
    left_out = tests.influences[1] - tests.influences[0]
    ends = student_ends(0.02, left_out, level=LEVEL, is_share=False)
    result = tests.interval(1, 0, LEVEL, most_freedom=np.inf)
    assert (result.low, result.high) == pytest.approx(ends)
    assert tests.pairs_level(LEVEL) == pytest.approx(LEVEL, abs=0.01)


def test_the_set_is_found_as_by_ten_lines_that_follow_the_paper():
    tests = sampled(0.5 + 0.012 * np.arange(6), seed=3)
    rows = np.stack([tests.deviates(index, tests.most_freedom) for index in range(6)])
    left, highest, expected = list(range(6)), 0.0, {}
    while len(left) > 1:
        pairs = list(itertools.combinations(left, 2))
        draws = [(tests.errors[:, a] - tests.errors[:, b]) for a, b in pairs]
        scaled = [np.abs(d) / tests.standard_errors[p] for d, p in zip(draws, pairs, strict=True)]
        statistic = max(abs(rows[pair]) for pair in pairs)
        share = ((np.max(scaled, axis=0) >= statistic).sum() + 1) / (len(tests.errors) + 1)
        worst = max(left, key=lambda index: rows[index][left].max())
        highest = max(highest, share)
        expected[worst] = highest
        left.remove(worst)
    expected[left[0]] = 1.0
    assert tests.set_p == pytest.approx([expected[index] for index in range(6)])


def test_the_highest_is_always_in_the_set_and_p_falls_with_clear_gaps():
    p = sampled([0.9, 0.5, 0.7, 0.89]).set_p
    assert p[0] == 1
    assert p[1] <= p[2] < 0.05 < p[3]


def test_step_down_never_gives_a_larger_p_than_the_interval_allows():
    tests = sampled(0.5 + 0.02 * np.arange(8), seed=5)
    result = tests.against(0, range(1, 8), level=LEVEL)
    ends = [
        tests.interval(k, 0, result.each_level, most_freedom=result.most_freedom)
        for k in range(1, 8)
    ]
    excluded = [end.low > 0 or end.high < 0 for end in ends]
    assert True in excluded
    assert all(p <= 0.055 for p, out in zip(result.p[1:], excluded, strict=True) if out)


def test_twenty_copies_cost_what_one_costs_against_a_fixed_candidate():
    rng = np.random.default_rng(0)
    fixed, other = rng.normal(0, 0.002, (2, 40))
    copies = other + rng.normal(0, 1e-5, (20, 40))
    few = joint([0.5, 0.51], [fixed, other]).against(0, [1], level=LEVEL)
    many = joint([0.5] + [0.51] * 20, [fixed, *copies]).against(0, range(1, 21), level=LEVEL)
    unlike = joint([0.5] + [0.51] * 20, [fixed, *rng.normal(0, 0.002, (20, 40))])
    assert many.each_level == pytest.approx(few.each_level, abs=0.005)
    assert many.p[1] == pytest.approx(few.p[1], abs=0.02)
    assert unlike.against(0, range(1, 21), level=LEVEL).each_level > 0.99


def test_equal_copies_are_in_the_set_together():
    influences = np.random.default_rng(0).normal(0, 0.01, 30)
    tests = joint([0.5, 0.5, 0.1], [influences, influences, influences[::-1]])
    assert tests.set_p[:2] == pytest.approx([1, 1])
    assert tests.interval(0, 1, LEVEL, most_freedom=np.inf).low == 0
    assert tests.against(0, [1], level=LEVEL).p[1] == 1


@pytest.mark.parametrize(
    "left_out", [np.zeros((2, 1)), [[0.1, 0.2, np.nan], [0.1, 0.2, 0.3]]], ids=["one group", "NaN"]
)
def test_what_has_no_error_is_not_compared(left_out):
    tests = joint([0.5, 0.6], left_out)
    assert not tests.compared[0]
    assert np.isnan(tests.set_p[0])
    assert tests.interval(0, 1, LEVEL, most_freedom=np.inf) is None
    assert np.isnan(tests.against(0, [1], level=LEVEL).p).all()


def test_one_sided_bounds_are_nearer_than_two_sided_intervals():
    result = sampled([0.5] * 6).against(0, range(1, 6), level=LEVEL)
    assert LEVEL < result.bound_level < result.each_level
    assert result.each_level == pytest.approx(2 * result.bound_level - 1, abs=0.03)


def test_the_batch_size_has_no_effect_on_tests(monkeypatch):
    whole = sampled([0.5, 0.51, 0.52])
    monkeypatch.setattr("evaluation.joint_tests.BATCH_VALUES", 80)
    assert sampled([0.5, 0.51, 0.52]).set_p == pytest.approx(whole.set_p, abs=0.02)


@pytest.mark.slow
def test_a_hundred_candidates_on_a_thousand_groups_take_seconds():
    rng = np.random.default_rng(0)
    start = time.perf_counter()
    tests = JointTests.from_influences(
        rng.normal(0.5, 0.01, 100), rng.normal(0, 1e-4, (100, 1000)), rng=rng
    )
    assert np.nanmin(tests.set_p) < 1
    assert time.perf_counter() - start < 20
