"""Intervals: laws, the slow way, cases by hand, and how often they hold the target."""

from typing import Literal, get_args

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import ndtr, ndtri

from evaluation import intervals
from evaluation.intervals import (
    Interval,
    Method,
    bca,
    expanded_percentile,
    group_sums,
    interval,
    paired_interval,
    percentile,
    replicates,
)
from evaluation.protocols import PROTOCOLS

law = settings(max_examples=15, deadline=None)
MASKED = PROTOCOLS.build("masked")
CLASSES = 3
FAST = {"resamples": 200}
METHODS = get_args(Method)
seeds = st.integers(0, 2**32 - 1)


def drawn_counts(seed, images=12):
    return np.random.default_rng(seed).integers(0, 30, (images, CLASSES, CLASSES))


def made(counts, groups, *, seed=0, **options):
    rng = np.random.default_rng(seed)
    return interval(counts, groups, MASKED, 0, rng=rng, **(FAST | options))


def paired(a, b, groups, *, seed=0, **options):
    rng = np.random.default_rng(seed)
    return paired_interval(a, b, groups, MASKED, 0, rng=rng, **(FAST | options))


class TestLaws:
    @law
    @given(seeds, st.sampled_from(METHODS))
    def test_the_score_lies_inside_its_interval(self, seed, method):
        counts = drawn_counts(seed)
        found = made(counts, np.arange(12) // 2, method=method)
        assert found.low <= MASKED(counts.sum(axis=0), 0).miou <= found.high

    @law
    @given(seeds, st.sampled_from(METHODS))
    def test_a_higher_level_is_wider(self, seed, method):
        counts, groups = drawn_counts(seed), np.arange(12) // 2
        narrow, wide = (made(counts, groups, level=level, method=method) for level in (0.5, 0.95))
        assert wide.low <= narrow.low <= narrow.high <= wide.high

    @law
    @given(seeds)
    def test_exchanging_the_two_turns_the_difference_round(self, seed):
        a, b, groups = drawn_counts(seed), drawn_counts(seed + 1), np.arange(12) // 2
        one, other = paired(a, b, groups), paired(b, a, groups)
        np.testing.assert_allclose([one.low, one.high], [-other.high, -other.low])

    @law
    @given(seeds)
    def test_a_candidate_differs_from_itself_by_nothing(self, seed):
        counts = drawn_counts(seed)
        assert paired(counts, counts, np.arange(12)) == Interval(0.0, 0.0, 0.95)

    @law
    @given(seeds)
    def test_exchanging_the_two_turns_every_quantile_round(self, seed):
        a, b, groups = drawn_counts(seed), drawn_counts(seed + 1), np.arange(12) // 2
        for method in METHODS[1:]:
            one, other = paired(a, b, groups, method=method), paired(b, a, groups, method=method)
            np.testing.assert_allclose([one.low, one.high], [-other.high, -other.low])

    @law
    @given(seeds, st.permutations(range(12)))
    def test_the_order_of_the_images_has_no_effect(self, seed, order):
        counts, groups = drawn_counts(seed), np.arange(12) // 3
        assert made(counts[order], groups[order]) == made(counts, groups)

    @law
    @given(seeds)
    def test_images_copied_within_their_groups_tell_nothing_new(self, seed):
        counts, groups = drawn_counts(seed), np.arange(12) // 3
        twice = made(np.repeat(counts, 2, axis=0), np.repeat(groups, 2))
        np.testing.assert_allclose(
            [twice.low, twice.high], [getattr(made(counts, groups), e) for e in ("low", "high")]
        )

    @law
    @given(seeds, st.integers(1, 60))
    def test_batches_of_any_size_give_the_same_resamples(self, seed, values):
        sums = group_sums(drawn_counts(seed)[np.newaxis], np.arange(12))
        with pytest.MonkeyPatch.context() as patch:
            runs = []
            for size in (1 << 22, values):
                patch.setattr(intervals, "BATCH_VALUES", size)
                rng = np.random.default_rng(seed)
                runs.append(replicates(sums, MASKED, 0, rng=rng, resamples=100))
        np.testing.assert_array_equal(*runs)


class TestAgainstTheSlowWay:
    def test_group_sums_are_sums_over_each_group(self):
        groups = np.array(["b", "a", "b", "c", "a", "b"])
        counts = np.stack([drawn_counts(0, 6), drawn_counts(1, 6)])
        expected = [[one[groups == name].sum(axis=0) for name in ("a", "b", "c")] for one in counts]
        np.testing.assert_array_equal(group_sums(counts, groups), expected)

    def test_a_resample_is_the_score_of_the_drawn_groups(self):
        sums = group_sums(drawn_counts(3)[np.newaxis], np.arange(12) // 2)
        found = replicates(sums, MASKED, 0, rng=np.random.default_rng(7), resamples=100)
        drawn = np.random.default_rng(7).integers(6, size=(100, 6))
        expected = [MASKED(sums[0, places].sum(axis=0), 0).miou for places in drawn]
        np.testing.assert_allclose(found[0], expected)

    def test_the_interval_of_a_mean_is_about_students(self):
        from scipy import stats

        means = np.random.default_rng(0).normal(size=12)
        drawn = np.random.default_rng(1).choice(means, (20_000, 12)).mean(axis=1)
        found = expanded_percentile(drawn, groups=12, level=0.9)
        student = stats.t.interval(0.9, 11, means.mean(), stats.sem(means))
        np.testing.assert_allclose([found.low, found.high], student, atol=0.1)
        plain = np.quantile(drawn, [0.05, 0.95])
        assert found.low < plain[0] < plain[1] < found.high

    @pytest.mark.slow
    def test_bca_and_percentile_are_scipys(self):
        from scipy import stats

        sums = drawn_counts(3, 25)

        def score(places):
            return float(MASKED(sums[places.astype(int)].sum(axis=0), 0).miou)

        pairs: list[tuple[Method, Literal["BCa", "percentile"]]]
        pairs = [("bca", "BCa"), ("percentile", "percentile")]
        for ours, theirs in pairs:
            found = made(sums, np.arange(25), method=ours, resamples=20_000)
            reference = stats.bootstrap(
                (np.arange(25),),
                score,
                method=theirs,
                n_resamples=3_000,
                vectorized=False,
                rng=np.random.default_rng(0),
            )
            ends = reference.confidence_interval
            atol = 0.06 * (found.high - found.low)
            np.testing.assert_allclose([found.low, found.high], ends, atol=atol)

    def test_bca_moves_both_ends_to_where_one_group_pulls(self):
        rng = np.random.default_rng(0)
        values = np.append(rng.normal(0, 0.1, 30), 3.0)
        drawn = rng.choice(values, (5_000, 31)).mean(axis=1)
        left_out = (values.sum() - values) / 30
        plain, found = percentile(drawn), bca(values.mean(), drawn, left_out)
        assert found.low > plain.low
        assert found.high > plain.high

    def test_bca_moves_up_where_most_resamples_fall_short(self):
        drawn = np.append(np.linspace(0, 1, 2_001), np.full(500, np.nan))
        found = bca(0.8, drawn, np.array([0.7, 0.8, 0.9]), level=0.9)
        bias, tails = ndtri(0.8), ndtri([0.05, 0.95])  # without acceleration
        np.testing.assert_allclose([found.low, found.high], ndtr(2 * bias + tails), atol=2e-3)


class TestByHand:
    @pytest.mark.parametrize("method", METHODS)
    def test_one_group_gives_no_interval(self, method):
        one = np.zeros(12, int)
        assert made(drawn_counts(0), one, method=method) is None
        assert paired(drawn_counts(0), drawn_counts(1), one, method=method) is None

    @pytest.mark.parametrize("method", METHODS)
    def test_nothing_counted_gives_no_interval(self, method):
        assert made(np.zeros((4, 3, 3), int), np.arange(4), method=method) is None

    def test_resamples_with_nothing_to_score_are_left_out(self):
        found = expanded_percentile(np.array([np.nan, 0.5, np.nan]), groups=3)
        assert found == Interval(0.5, 0.5, 0.95)

    def test_groups_that_are_all_alike_leave_no_doubt(self):
        counts = np.repeat(drawn_counts(0, 1), 6, axis=0)
        found = made(counts, np.arange(6))
        np.testing.assert_allclose(found.low, found.high)

    def test_the_same_generator_state_gives_the_same_interval(self):
        counts, groups = drawn_counts(0), np.arange(12)
        one, again, other = (made(counts, groups, seed=s, method="bca") for s in (3, 3, 4))
        assert one == again != other

    def test_a_difference_is_surer_than_the_two_scores(self):
        images = np.random.default_rng(5)
        good = images.integers(0, 100, 40)  # hard and easy images, the same for both
        a, b = np.zeros((2, 40, 2, 2), int)
        a[:, 1, 1], a[:, 1, 0] = good, 100 - good
        b[:, 1, 1], b[:, 1, 0] = good * 9 // 10, 100 - good * 9 // 10
        groups = np.arange(40)
        assert made(a, groups).low < made(b, groups).high
        assert paired(a, b, groups).low > 0


@pytest.mark.parametrize("groups", [10, 40])
def test_about_19_of_20_paired_intervals_hold_the_true_difference(groups):
    rng = np.random.default_rng(0)

    def data_set(size):
        hard = rng.normal(0, 1, size)  # a group is hard for both
        pixels = rng.lognormal(7, 0.8, size)
        for skill in (0.6, 0.4):
            hits = pixels / (1 + np.exp(-(skill + hard + rng.normal(0, 0.3, size))))
            counts = np.zeros((size, 2, 2), int)
            counts[:, 1, 1], counts[:, 1, 0] = hits, pixels - hits
            yield counts

    a, b = (MASKED(counts.sum(axis=0), 0).miou for counts in data_set(200_000))
    found = [paired(*data_set(groups), np.arange(groups), resamples=500) for _ in range(200)]
    share = np.mean([one.low <= a - b <= one.high for one in found])
    assert 0.90 <= share <= 0.99
