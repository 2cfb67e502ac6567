"""Gaps to the first, sign-flip tests, Holm's correction, and the Pareto front."""

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
from evaluation.scores import CandidateScores, ScoredImages
from evaluation.significance import gaps_to_first, holm, num_pairs, on_pareto_front, sign_flip_test
from tests.evaluation.simulated import IGNORE, simulate

IMAGES = 24
LEVEL = 0.95


def candidate(share, seed=0, images=IMAGES):
    hits = np.clip(100 * share + np.random.default_rng(seed).integers(-9, 10, images), 0, 100)
    counts = np.zeros((images, 3, 3), int)
    for label, other in ((1, 2), (2, 0)):
        counts[:, label, label], counts[:, label, other] = hits, 100 - hits
    return ScoredImages(counts, tuple(map(str, range(images))), np.arange(images) // 2)


def gaps(*candidates, protocol="masked"):
    measured = CandidateScores.of(candidates, PROTOCOLS.build(protocol), 0)
    return measured, gaps_to_first(measured, rng=np.random.default_rng(0), level=LEVEL)


class TestGaps:
    @pytest.mark.parametrize("protocol", sorted(PROTOCOLS))
    def test_gaps_are_to_the_highest_under_every_protocol(self, protocol):
        measured, result = gaps(
            *(candidate(share, seed) for seed, share in enumerate((0.5, 0.8, 0.2))),
            protocol=protocol,
        )
        assert result[1] is None
        for index in (0, 2):
            gap = result[index]
            assert gap.value == pytest.approx(measured.mious[index] - measured.mious[1])
            assert gap.interval.low <= gap.value <= gap.interval.high < 0
            assert gap.significant

    def test_a_gap_that_may_be_chance_is_not_significant(self):
        _, (first, near, far) = gaps(candidate(0.6), candidate(0.6, seed=1), candidate(0.3))
        near = near or first
        assert not near.significant
        assert far.significant

    def test_every_pair_counts_in_the_correction(self):
        _, (_, one) = gaps(candidate(0.6), candidate(0.55, seed=1))
        many = [candidate(0.3, seed=s) for s in range(2, 7)]
        _, (_, same, *_) = gaps(candidate(0.6), candidate(0.55, seed=1), *many)
        assert one.p == one.p_alone
        assert same.p == min(1, same.p_alone * (num_pairs(7) - 5))

    def test_without_a_scored_pixel_no_candidate_is_first(self):
        nothing = ScoredImages(np.zeros((2, 3, 3), int), ("a", "b"), np.arange(2))
        assert gaps(nothing, nothing)[1] == [None, None]

    def test_a_candidate_without_a_score_has_no_p_value(self):
        nothing = ScoredImages(
            np.zeros((IMAGES, 3, 3), int), candidate(0.5).ids, candidate(0.5).groups
        )
        _, (first, gap) = gaps(candidate(0.5), nothing)
        assert first is None
        assert math.isnan(gap.p)
        assert gap.interval is None
        assert not gap.significant


class TestFront:
    def test_by_hand(self):
        scores, costs = [0.9, 0.8, 0.8, 0.7, 0.6], [9.0, 5.0, 4.0, 4.0, 1.0]
        assert on_pareto_front(scores, costs) == [True, False, True, False, True]

    def test_every_score_needs_a_cost(self):
        with pytest.raises(ValueError, match="shorter"):
            on_pareto_front([0.5, 0.6], [2.0])

    def test_equal_candidates_are_both_on_the_front(self):
        assert on_pareto_front([0.5, 0.5], [2.0, 2.0]) == [True, True]

    def test_candidates_of_unknown_cost_are_not_on_the_front_and_dominate_none(self):
        assert on_pareto_front([0.9, 0.5, math.nan], [math.nan, 2.0, 1.0]) == [False, True, False]

    @given(st.lists(st.tuples(st.floats(0, 1), st.floats(0, 9)), min_size=1, max_size=9))
    def test_a_candidate_off_the_front_is_dominated_by_one_on_it(self, points):
        front = on_pareto_front(*zip(*points, strict=True))
        best = [point for point, on_it in zip(points, front, strict=True) if on_it]
        assert max(points)[0] == max(best)[0]
        for score, cost in points:
            assert any(s >= score and c <= cost for s, c in best)


MASKED = PROTOCOLS.build("masked")
law = settings(max_examples=20, deadline=None)
p_values = st.lists(st.floats(0, 1), min_size=1, max_size=8).map(np.array)


def sampled(groups, seed=0):
    return np.random.default_rng(seed).integers(0, 30, (2, groups, 3, 3))


def p_value(a, b, *, seed=0, **options):
    return sign_flip_test(a, [b], MASKED, 0, rng=np.random.default_rng(seed), **options)[0]


def gap_of(a, b):
    return float(MASKED(a.sum(axis=0), 0).miou - MASKED(b.sum(axis=0), 0).miou)


class TestSignFlips:
    @pytest.mark.parametrize("groups", [1, 2, 5, 8])
    def test_with_few_groups_all_exchanges_are_evaluated(self, groups):
        a, b = sampled(groups, seed=groups)
        gaps = []
        for exchanged in itertools.product([False, True], repeat=groups):
            swap = np.array(exchanged)[:, None, None]
            gaps.append(abs(gap_of(np.where(swap, b, a), np.where(swap, a, b))))
        expected = np.mean(np.array(gaps) >= abs(gap_of(a, b)) - 1e-12)
        assert p_value(a, b) == pytest.approx(expected)

    @pytest.mark.slow
    def test_with_more_groups_the_p_value_is_that_of_scipy(self):
        a, b = sampled(16, seed=3)
        both, indices = np.stack([a, b]), np.arange(16)

        def swapped(x, y):  # x and y hold 0 or 1: whose counts stand first
            first, second = x.astype(int), y.astype(int)
            return gap_of(both[first, indices], both[second, indices])

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
    def test_exchanging_the_candidates_keeps_the_p_value(self, seed):
        a, b = sampled(12, seed)
        assert p_value(a, b, flips=300) == p_value(b, a, flips=300)

    def test_a_candidate_against_itself_has_p_1(self):
        a, _ = sampled(12)
        assert p_value(a, a) == 1

    def test_a_gap_in_every_group_has_a_small_p_value(self):
        a, _ = sampled(12)
        worse = a + 10 * (1 - np.eye(3, dtype=int))
        assert p_value(a, worse) < 0.01

    def test_a_p_value_is_never_0(self):
        a, _ = sampled(40)
        worse = a + 100 * (1 - np.eye(3, dtype=int))
        assert p_value(a, worse, flips=100) == pytest.approx(1 / 101)

    def test_without_a_scored_pixel_p_is_nan(self):
        nothing = np.zeros((4, 3, 3), int)
        assert math.isnan(p_value(nothing, nothing))

    def test_the_batch_size_has_no_effect(self, monkeypatch):
        a, b = sampled(40)
        whole = p_value(a, b, flips=300)
        monkeypatch.setattr(significance, "BATCH_VALUES", 200)
        assert p_value(a, b, flips=300) == whole

    @pytest.mark.parametrize("groups", [7, 40])
    def test_with_many_classes_memory_is_bounded(self, monkeypatch, groups):
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
        result = holm(np.array([0.03, 0.01, 0.02, 0.9]), tests=4)
        np.testing.assert_allclose(result, [0.06, 0.04, 0.06, 0.9])

    def test_holm_counts_tests_that_are_not_given(self):
        np.testing.assert_allclose(holm(np.array([0.01, 0.004]), tests=6), [0.05, 0.024])

    def test_nan_stays_nan_and_is_ranked_last(self):
        result = holm(np.array([math.nan, 0.01]), tests=2)
        assert math.isnan(result[0])
        assert result[1] == 0.02

    @law
    @given(p_values)
    def test_holm_never_lowers_a_p_value_and_keeps_the_order(self, values):
        result = holm(values, tests=len(values))
        assert (result >= values).all()
        assert (np.diff(result[np.argsort(values)]) >= 0).all()
        assert (result <= np.minimum(1, values * len(values))).all()


@pytest.mark.slow
def test_without_a_difference_the_test_errs_about_one_time_in_twenty():
    rng, p = np.random.default_rng(0), []
    for _ in range(300):
        both = simulate(40, np.zeros((2, 5)), rng)
        a, b = group_sums(both.counts, both.groups)
        p.append(sign_flip_test(a, [b], MASKED, IGNORE, rng=rng, flips=200)[0])
    assert np.mean(np.array(p) <= 0.05) <= 0.085
    assert stats.kstest(p, "uniform").pvalue > 0.01
