"""Tests of candidates: exact enumeration, a library, Holm by hand, and how often they err."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from evaluation import significance
from evaluation.intervals import group_sums
from evaluation.protocols import PROTOCOLS
from evaluation.significance import holm, sign_flip_test
from tests.evaluation.simulated import IGNORE, simulate

MASKED = PROTOCOLS.build("masked")
law = settings(max_examples=20, deadline=None)
p_values = st.lists(st.floats(0, 1), min_size=1, max_size=8).map(np.array)


def drawn(groups, seed=0):
    return np.random.default_rng(seed).integers(0, 30, (2, groups, 3, 3))


def p_value(a, b, *, seed=0, **options):
    return sign_flip_test(a, [b], MASKED, 0, rng=np.random.default_rng(seed), **options)[0]


def gap(a, b):
    return float(MASKED(a.sum(axis=0), 0).miou - MASKED(b.sum(axis=0), 0).miou)


class TestSignFlips:
    @pytest.mark.parametrize("groups", [1, 2, 5, 8])
    def test_with_few_groups_all_exchanges_are_gone_through(self, groups):
        a, b = drawn(groups, seed=groups)
        gaps = []
        for exchanged in itertools.product([False, True], repeat=groups):
            swap = np.array(exchanged)[:, None, None]
            gaps.append(abs(gap(np.where(swap, b, a), np.where(swap, a, b))))
        expected = np.mean(np.array(gaps) >= abs(gap(a, b)) - 1e-12)
        assert p_value(a, b) == pytest.approx(expected)

    @pytest.mark.slow
    def test_with_more_groups_it_is_scipys(self):
        a, b = drawn(16, seed=3)
        both, places = np.stack([a, b]), np.arange(16)

        def swapped(x, y):  # x and y hold 0 or 1: whose counts stand first
            first, second = x.astype(int), y.astype(int)
            return gap(both[first, places], both[second, places])

        reference = stats.permutation_test(
            (np.zeros(16), np.ones(16)),
            swapped,
            permutation_type="samples",
            vectorized=False,
            n_resamples=2_000,
            rng=np.random.default_rng(0),
        )
        assert p_value(a, b, flips=5_000) == pytest.approx(reference.pvalue, abs=0.04)

    @law
    @given(st.integers(0, 2**32 - 1))
    def test_it_does_not_matter_who_is_first(self, seed):
        a, b = drawn(12, seed)
        assert p_value(a, b, flips=300) == p_value(b, a, flips=300)

    def test_a_candidate_cannot_be_told_from_itself(self):
        a, _ = drawn(12)
        assert p_value(a, a) == 1

    def test_a_gap_in_every_group_is_told_from_chance(self):
        a, _ = drawn(12)
        worse = a + 10 * (1 - np.eye(3, dtype=int))
        assert p_value(a, worse) < 0.01

    def test_a_p_value_is_never_0(self):
        a, _ = drawn(40)
        worse = a + 100 * (1 - np.eye(3, dtype=int))
        assert p_value(a, worse, flips=100) == pytest.approx(1 / 101)

    def test_nothing_scored_is_nan(self):
        nothing = np.zeros((4, 3, 3), int)
        assert math.isnan(p_value(nothing, nothing))

    def test_batches_of_any_size_give_the_same(self, monkeypatch):
        a, b = drawn(40)
        whole = p_value(a, b, flips=300)
        monkeypatch.setattr(significance, "BATCH_VALUES", 200)
        assert p_value(a, b, flips=300) == whole

    @pytest.mark.parametrize("groups", [7, 40])
    def test_with_many_classes_memory_stays_in_bounds(self, monkeypatch, groups):
        sizes = []

        def noting(counts, ignore):
            sizes.append(counts.size)
            return MASKED(counts, ignore)

        monkeypatch.setattr(significance, "BATCH_VALUES", 4000)
        a, b = np.random.default_rng(0).integers(0, 30, (2, groups, 20, 20))
        sign_flip_test(a, [b], noting, 0, rng=np.random.default_rng(0), flips=100)
        assert max(sizes) == 4000


class TestHolm:
    def test_by_hand(self):
        found = holm(np.array([0.03, 0.01, 0.02, 0.9]), tests=4)
        np.testing.assert_allclose(found, [0.06, 0.04, 0.06, 0.9])

    def test_tests_that_are_not_shown_count_too(self):
        np.testing.assert_allclose(holm(np.array([0.01, 0.004]), tests=6), [0.05, 0.024])

    def test_unknown_stays_unknown_and_comes_last(self):
        found = holm(np.array([math.nan, 0.01]), tests=2)
        assert math.isnan(found[0])
        assert found[1] == 0.02

    @law
    @given(p_values)
    def test_it_never_lowers_a_p_value_and_keeps_their_order(self, values):
        found = holm(values, tests=len(values))
        assert (found >= values).all()
        assert (np.diff(found[np.argsort(values)]) >= 0).all()
        assert (found <= np.minimum(1, values * len(values))).all()


@pytest.mark.slow
def test_under_no_difference_it_errs_about_one_time_in_twenty():
    rng, p = np.random.default_rng(0), []
    for _ in range(300):
        both = simulate(40, np.zeros((2, 5)), rng)
        a, b = group_sums(both.counts, both.groups)
        p.append(sign_flip_test(a, [b], MASKED, IGNORE, rng=rng, flips=200)[0])
    assert np.mean(np.array(p) <= 0.05) <= 0.085
    assert stats.kstest(p, "uniform").pvalue > 0.01
