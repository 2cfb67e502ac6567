"""Intervals by leaving one group out: laws, a library, by hand, how often they hold the target."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from evaluation.intervals import (
    effective_groups,
    group_sums,
    interval,
    leave_one_out,
    paired_interval,
    standard_error,
    student_ends,
)
from evaluation.leaderboard_text import COVERED, coverage_with
from evaluation.protocols import PROTOCOLS
from tests.evaluation.simulated import IGNORE, simulate

MASKED = PROTOCOLS.build("masked")
law = settings(max_examples=25, deadline=None)
numbers = st.lists(st.floats(-10, 10), min_size=3, max_size=30).map(np.array)


class TestLaws:
    @law
    @given(numbers)
    def test_groups_that_count_are_between_two_and_all(self, left_out):
        assert 2 <= effective_groups(left_out) <= max(2, len(left_out))

    @law
    @given(numbers, st.floats(0.1, 10), st.floats(-5, 5))
    def test_how_many_groups_count_does_not_depend_on_unit_and_origin(self, left_out, unit, origin):
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
    def test_the_error_of_a_mean_is_scipys(self):
        values = np.random.default_rng(0).normal(size=12)
        left_out = (values.sum() - values) / 11
        assert standard_error(left_out) == pytest.approx(stats.sem(values))

    def test_with_all_groups_alike_a_difference_has_students_interval(self):
        values = np.tile([-1.0, 1.0], 6)
        left_out = (values.sum() - values) / 11
        found = student_ends(values.mean(), left_out, level=0.9, is_share=False)
        expected = stats.t.interval(0.9, 11, values.mean(), stats.sem(values))
        np.testing.assert_allclose(found, expected)

    def test_left_out_scores_are_those_of_the_other_groups(self):
        sums = np.random.default_rng(0).integers(0, 30, (5, 3, 3))
        found = leave_one_out(sums, MASKED, 0).miou
        expected = [MASKED(np.delete(sums, g, axis=0).sum(axis=0), 0).miou for g in range(5)]
        np.testing.assert_allclose(found, expected)


class TestByHand:
    def test_two_values_move_it_as_many_groups_as_there_are(self):
        assert effective_groups(np.tile([0.0, 1.0], 10)) == 20

    def test_one_group_that_moves_it_alone_counts_as_little_more_than_two(self):
        one = np.zeros(100)
        one[7] = 1
        kurtosis = stats.kurtosis(one, fisher=False)
        assert effective_groups(one) == pytest.approx(200 / (kurtosis - 1) + 1)
        assert effective_groups(one) < 3.1

    @pytest.mark.parametrize("left_out", [[0.5], [0.5, math.nan]])
    def test_there_is_no_interval_where_one_group_makes_the_score(self, left_out):
        assert student_ends(0.5, np.array(left_out), level=0.95, is_share=True) is None

    @pytest.mark.parametrize("score", [0.0, 1.0])
    def test_a_perfect_score_everywhere_leaves_no_doubt(self, score):
        found = student_ends(score, np.full(6, score), level=0.95, is_share=True)
        assert found == (score, score)

    @pytest.mark.parametrize(("score", "beyond"), [(0.0, 0), (1.0, 1)])
    def test_an_interval_of_a_share_stays_one(self, score, beyond):
        left_out = np.array([score] * 5 + [abs(score - 0.01)])
        found = student_ends(score, left_out, level=0.95, is_share=True)
        assert found[beyond] == score
        assert 0 < found[1 - beyond] < 1


class TestWhatIsSaid:
    def test_few_groups_are_told_what_fewer_or_as_many_did(self):
        said, (score, difference) = coverage_with(50) or "", COVERED[20]
        assert f"with 20, such 95% intervals held the true score in {score:g}%" in said
        assert f"the true difference in {difference:g}%" in said

    def test_fewer_than_were_tried_are_told_so(self):
        assert (coverage_with(5) or "").endswith("with fewer, trust them less.")

    def test_many_groups_are_told_nothing(self):
        assert coverage_with(400) is None


SKILLS = np.array([[0, 0, 0, 0, 0], [0, 0.1, 0.1, 0.2, 0.3]])


@pytest.fixture(scope="module")
def target():
    rng = np.random.default_rng(1)
    sums = [simulate(4_000, SKILLS, rng).counts.sum(axis=1) for _ in range(8)]
    return MASKED(sum(sums), IGNORE).miou


@pytest.mark.slow
@pytest.mark.parametrize("groups", [20, 92])
def test_about_19_of_20_intervals_hold_the_target_and_fewer_percentiles(groups, target):
    rng, (a, b) = np.random.default_rng(0), target
    held, by_percentile, paired = [], [], []
    for _ in range(150):
        drawn = simulate(groups, SKILLS, rng)
        one = interval(drawn.counts[0], drawn.groups, MASKED, IGNORE)
        plain = interval(
            *(drawn.counts[0], drawn.groups, MASKED, IGNORE),
            rng=rng,
            method="percentile",
            resamples=200,
        )
        two = paired_interval(*drawn.counts, drawn.groups, MASKED, IGNORE)
        held.append(one.low <= a <= one.high)
        by_percentile.append(plain.low <= a <= plain.high)
        paired.append(two.low <= a - b <= two.high)
    assert 0.90 <= np.mean(held) <= 0.99
    assert 0.90 <= np.mean(paired) <= 0.99
    assert np.mean(by_percentile) < np.mean(held)


@pytest.mark.slow
def test_the_simulated_images_of_a_group_resemble_each_other():
    drawn = simulate(400, np.zeros((1, 5)), np.random.default_rng(0))
    alone = interval(drawn.counts[0], np.arange(len(drawn.groups)), MASKED, IGNORE)
    grouped = interval(drawn.counts[0], drawn.groups, MASKED, IGNORE)
    assert grouped.high - grouped.low > 1.5 * (alone.high - alone.low)
    holds_rare = group_sums(drawn.counts, drawn.groups)[0, :, 4].sum(axis=-1) > 0
    assert 0.1 < holds_rare.mean() < 0.4
