"""Intervals: laws, references, cases by hand, and how often they hold the true score."""

import math
from typing import Literal, get_args

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from scipy.special import ndtr, ndtri

from evaluation import intervals
from evaluation.intervals import (
    Interval,
    Method,
    bca,
    effective_groups,
    expanded_percentile,
    group_sums,
    interval,
    leave_one_out,
    paired_interval,
    percentile,
    replicates,
    standard_error,
    student_ends,
)
from evaluation.leaderboard_notes import COVERAGE, coverage_with
from evaluation.protocols import PROTOCOLS
from tests.evaluation.simulated import IGNORE, simulate

law = settings(max_examples=20, deadline=None)
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
        result = made(counts, np.arange(12) // 2, method=method)
        assert result.low <= MASKED(counts.sum(axis=0), 0).miou <= result.high

    @law
    @given(seeds, st.sampled_from(METHODS))
    def test_a_higher_level_is_wider(self, seed, method):
        counts, groups = drawn_counts(seed), np.arange(12) // 2
        narrow, wide = (made(counts, groups, level=level, method=method) for level in (0.5, 0.95))
        assert wide.low <= narrow.low <= narrow.high <= wide.high

    @law
    @given(seeds)
    def test_exchanging_the_candidates_negates_the_interval(self, seed):
        a, b, groups = drawn_counts(seed), drawn_counts(seed + 1), np.arange(12) // 2
        one, other = paired(a, b, groups), paired(b, a, groups)
        np.testing.assert_allclose([one.low, one.high], [-other.high, -other.low])

    @law
    @given(seeds)
    def test_the_difference_of_a_candidate_from_itself_is_0(self, seed):
        counts = drawn_counts(seed)
        assert paired(counts, counts, np.arange(12)) == Interval(0.0, 0.0, 0.95)

    @law
    @given(seeds)
    def test_exchanging_the_candidates_negates_every_quantile(self, seed):
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
    def test_copies_of_images_within_their_groups_have_no_effect(self, seed):
        counts, groups = drawn_counts(seed), np.arange(12) // 3
        twice = made(np.repeat(counts, 2, axis=0), np.repeat(groups, 2))
        np.testing.assert_allclose(
            [twice.low, twice.high], [getattr(made(counts, groups), e) for e in ("low", "high")]
        )

    @law
    @given(seeds, st.integers(1, 60))
    def test_the_batch_size_has_no_effect(self, seed, values):
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
        result = replicates(sums, MASKED, 0, rng=np.random.default_rng(7), resamples=100)
        sampled = np.random.default_rng(7).integers(6, size=(100, 6))
        expected = [MASKED(sums[0, indices].sum(axis=0), 0).miou for indices in sampled]
        np.testing.assert_allclose(result[0], expected)

    def test_the_interval_of_a_mean_is_close_to_students(self):
        from scipy import stats

        means = np.random.default_rng(0).normal(size=12)
        sampled = np.random.default_rng(1).choice(means, (20_000, 12)).mean(axis=1)
        result = expanded_percentile(sampled, groups=12, level=0.9)
        student = stats.t.interval(0.9, 11, means.mean(), stats.sem(means))
        np.testing.assert_allclose([result.low, result.high], student, atol=0.1)
        plain = np.quantile(sampled, [0.05, 0.95])
        assert result.low < plain[0] < plain[1] < result.high

    @pytest.mark.slow
    def test_bca_and_percentile_are_those_of_scipy(self):
        from scipy import stats

        sums = drawn_counts(3, 25)

        def score(indices):
            return float(MASKED(sums[indices.astype(int)].sum(axis=0), 0).miou)

        pairs: list[tuple[Method, Literal["BCa", "percentile"]]]
        pairs = [("bca", "BCa"), ("percentile", "percentile")]
        for ours, theirs in pairs:
            result = made(sums, np.arange(25), method=ours, resamples=20_000)
            reference = stats.bootstrap(
                (np.arange(25),),
                score,
                method=theirs,
                n_resamples=3_000,
                vectorized=False,
                rng=np.random.default_rng(0),
            )
            ends = reference.confidence_interval
            atol = 0.06 * (result.high - result.low)
            np.testing.assert_allclose([result.low, result.high], ends, atol=atol)

    def test_bca_moves_both_ends_towards_an_outlying_group(self):
        rng = np.random.default_rng(0)
        values = np.append(rng.normal(0, 0.1, 30), 3.0)
        sampled = rng.choice(values, (5_000, 31)).mean(axis=1)
        left_out = (values.sum() - values) / 30
        plain, result = percentile(sampled), bca(values.mean(), sampled, left_out)
        assert result.low > plain.low
        assert result.high > plain.high

    def test_bca_moves_up_where_most_resamples_fall_short(self):
        sampled = np.append(np.linspace(0, 1, 2_001), np.full(500, np.nan))
        result = bca(0.8, sampled, np.array([0.7, 0.8, 0.9]), level=0.9)
        bias, tails = ndtri(0.8), ndtri([0.05, 0.95])  # without acceleration
        np.testing.assert_allclose([result.low, result.high], ndtr(2 * bias + tails), atol=2e-3)


class TestByHand:
    @pytest.mark.parametrize("method", METHODS)
    def test_one_group_gives_no_interval(self, method):
        one = np.zeros(12, int)
        assert made(drawn_counts(0), one, method=method) is None
        assert paired(drawn_counts(0), drawn_counts(1), one, method=method) is None

    @pytest.mark.parametrize("method", METHODS)
    def test_nothing_counted_gives_no_interval(self, method):
        assert made(np.zeros((4, 3, 3), int), np.arange(4), method=method) is None

    def test_resamples_without_a_scored_pixel_are_left_out(self):
        result = expanded_percentile(np.array([np.nan, 0.5, np.nan]), groups=3)
        assert result == Interval(0.5, 0.5, 0.95)

    def test_equal_groups_give_an_interval_of_width_0(self):
        counts = np.repeat(drawn_counts(0, 1), 6, axis=0)
        result = made(counts, np.arange(6))
        np.testing.assert_allclose(result.low, result.high)

    def test_the_same_generator_state_gives_the_same_interval(self):
        counts, groups = drawn_counts(0), np.arange(12)
        one, again, other = (made(counts, groups, seed=s, method="bca") for s in (3, 3, 4))
        assert one == again != other

    def test_a_paired_difference_is_more_certain_than_two_scores(self):
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
    result = [paired(*data_set(groups), np.arange(groups), resamples=500) for _ in range(200)]
    share = np.mean([one.low <= a - b <= one.high for one in result])
    assert 0.90 <= share <= 0.99


numbers = st.lists(st.floats(-10, 10), min_size=3, max_size=30).map(np.array)


class TestJackknifeLaws:
    @law
    @given(numbers)
    def test_effective_groups_are_between_two_and_all(self, left_out):
        assert 2 <= effective_groups(left_out) <= max(2, len(left_out))

    @law
    @given(numbers, st.floats(0.1, 10), st.floats(-5, 5))
    def test_effective_groups_do_not_depend_on_unit_and_origin(self, left_out, unit, origin):
        if np.ptp(left_out) > 1e-3:
            moved = effective_groups(unit * left_out + origin)
            assert moved == pytest.approx(effective_groups(left_out), rel=1e-6)

    @law
    @given(st.floats(0.01, 0.99), st.integers(0, 2**32 - 1))
    def test_the_interval_of_a_share_lies_inside_0_and_1(self, score, seed):
        left_out = score + np.random.default_rng(seed).normal(0, 0.3, 8)
        ends = student_ends(score, left_out, level=0.95, is_share=True)
        assert ends is not None
        assert 0 <= ends[0] <= score <= ends[1] <= 1


class TestAgainstLibraries:
    def test_the_standard_error_of_a_mean_is_that_of_scipy(self):
        values = np.random.default_rng(0).normal(size=12)
        left_out = (values.sum() - values) / 11
        assert standard_error(left_out) == pytest.approx(stats.sem(values))

    def test_with_equal_influence_a_difference_has_students_interval(self):
        values = np.tile([-1.0, 1.0], 6)
        left_out = (values.sum() - values) / 11
        result = student_ends(values.mean(), left_out, level=0.9, is_share=False)
        expected = stats.t.interval(0.9, 11, values.mean(), stats.sem(values))
        np.testing.assert_allclose(result, expected)

    def test_left_out_scores_are_those_of_the_other_groups(self):
        sums = np.random.default_rng(0).integers(0, 30, (5, 3, 3))
        result = leave_one_out(sums, MASKED, 0).miou
        expected = [MASKED(np.delete(sums, g, axis=0).sum(axis=0), 0).miou for g in range(5)]
        np.testing.assert_allclose(result, expected)


class TestJackknifeByHand:
    def test_two_balanced_values_make_all_groups_effective(self):
        assert effective_groups(np.tile([0.0, 1.0], 10)) == 20

    def test_one_influential_group_counts_as_little_more_than_two(self):
        one = np.zeros(100)
        one[7] = 1
        kurtosis = stats.kurtosis(one, fisher=False)
        assert effective_groups(one) == pytest.approx(200 / (kurtosis - 1) + 1)
        assert effective_groups(one) < 3.1

    @pytest.mark.parametrize("left_out", [[0.5], [0.5, math.nan]])
    def test_there_is_no_interval_if_one_group_makes_the_score(self, left_out):
        assert student_ends(0.5, np.array(left_out), level=0.95, is_share=True) is None

    @pytest.mark.parametrize("score", [0.0, 1.0])
    def test_a_perfect_score_in_every_group_has_an_interval_of_width_0(self, score):
        result = student_ends(score, np.full(6, score), level=0.95, is_share=True)
        assert result == (score, score)

    @pytest.mark.parametrize(("score", "beyond"), [(0.0, 0), (1.0, 1)])
    def test_an_interval_of_a_share_stays_within_0_and_1(self, score, beyond):
        left_out = np.array([score] * 5 + [abs(score - 0.01)])
        result = student_ends(score, left_out, level=0.95, is_share=True)
        assert result[beyond] == score
        assert 0 < result[1 - beyond] < 1


class TestWhatIsSaid:
    def test_coverage_is_given_for_the_next_smaller_simulated_number_of_groups(self):
        message, (score, difference) = coverage_with(50) or "", COVERAGE[20]
        assert f"with 20, such 95% intervals held the true score in {score:g}%" in message
        assert f"the true difference in {difference:g}%" in message

    def test_fewer_groups_than_simulated_are_reported(self):
        assert (coverage_with(5) or "").endswith("with fewer, trust them less.")

    def test_with_many_groups_no_coverage_is_given(self):
        assert coverage_with(400) is None


SKILLS = np.array([[0, 0, 0, 0, 0], [0, 0.1, 0.1, 0.2, 0.3]])


@pytest.fixture(scope="module")
def true_mious():
    rng = np.random.default_rng(1)
    sums = [simulate(4_000, SKILLS, rng).counts.sum(axis=1) for _ in range(8)]
    return MASKED(sum(sums), IGNORE).miou


@pytest.mark.slow
@pytest.mark.parametrize("groups", [20, 92])
def test_about_19_of_20_intervals_hold_the_target_and_fewer_percentiles(groups, true_mious):
    rng, (a, b) = np.random.default_rng(0), true_mious
    held, by_percentile, paired = [], [], []
    for _ in range(150):
        sampled = simulate(groups, SKILLS, rng)
        one = interval(sampled.counts[0], sampled.groups, MASKED, IGNORE)
        plain = interval(
            *(sampled.counts[0], sampled.groups, MASKED, IGNORE),
            rng=rng,
            method="percentile",
            resamples=200,
        )
        two = paired_interval(*sampled.counts, sampled.groups, MASKED, IGNORE)
        held.append(one.low <= a <= one.high)
        by_percentile.append(plain.low <= a <= plain.high)
        paired.append(two.low <= a - b <= two.high)
    assert 0.90 <= np.mean(held) <= 0.99
    assert 0.90 <= np.mean(paired) <= 0.99
    assert np.mean(by_percentile) < np.mean(held)


@pytest.mark.slow
def test_the_simulated_images_of_a_group_resemble_each_other():
    sampled = simulate(400, np.zeros((1, 5)), np.random.default_rng(0))
    alone = interval(sampled.counts[0], np.arange(len(sampled.groups)), MASKED, IGNORE)
    grouped = interval(sampled.counts[0], sampled.groups, MASKED, IGNORE)
    assert grouped.high - grouped.low > 1.5 * (alone.high - alone.low)
    holds_rare = group_sums(sampled.counts, sampled.groups)[0, :, 4].sum(axis=-1) > 0
    assert 0.1 < holds_rare.mean() < 0.4
