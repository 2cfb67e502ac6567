"""Gaps to the first, which candidates may be best, the smallest detectable gap, and the front."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from evaluation.joint_tests import JointTests
from evaluation.protocols import PROTOCOLS
from evaluation.scores import CandidateScores, ScoredImages
from evaluation.significance import (
    detectable_gap,
    gaps_to_first,
    groups_needed,
    on_pareto_front,
)

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
    tests = JointTests.of(measured, rng=np.random.default_rng(0), resamples=1_000)
    return measured, gaps_to_first(tests, measured.mious.tolist(), LEVEL)


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
            assert not gap.may_be_best

    def test_a_candidate_whose_gap_may_be_chance_may_be_best(self):
        _, (first, near, far) = gaps(candidate(0.6), candidate(0.6, seed=1), candidate(0.3))
        near = near or first
        assert near.may_be_best
        assert not far.may_be_best

    def test_a_gap_whose_interval_excludes_0_is_never_called_chance(self):
        shares = np.random.default_rng(0).uniform(0.55, 0.65, 12)
        _, result = gaps(*(candidate(share, seed) for seed, share in enumerate(shares)))
        known = [gap for gap in result if gap is not None]
        assert {gap.may_be_best for gap in known} == {True, False}
        assert not any(gap.interval.high < 0 and gap.may_be_best for gap in known)

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
        assert not gap.may_be_best


class TestDetectable:
    def test_by_hand_it_is_the_sum_of_two_quantiles_in_standard_errors(self):
        left_out = np.array([[0.0] * 40, [0.01, -0.01] * 20])
        tests = JointTests.from_influences(
            np.array([0.5, 0.9]), left_out, rng=np.random.default_rng(0), resamples=100
        )
        error = np.sqrt(39 / 40 * 40 * 0.01**2)
        gap = detectable_gap(tests, 0, [1], LEVEL, most_freedom=np.inf)
        assert gap.median == pytest.approx(error * (2.0227 + 0.8512), rel=1e-3)  # t at 39

    def test_the_gap_that_was_observed_has_no_effect(self):
        left_out = np.random.default_rng(0).normal(0, 0.01, (2, 20))
        found = [
            detectable_gap(
                JointTests.from_influences(
                    np.array([0.5, other]), left_out, rng=np.random.default_rng(0), resamples=100
                ),
                *(0, [1], LEVEL),
                most_freedom=np.inf,
            )
            for other in (0.5, 0.9)
        ]
        assert found[0] == found[1]

    def test_a_copy_has_none(self):
        left_out = np.tile(np.arange(9.0), (2, 1))
        tests = JointTests.from_influences(
            np.array([0.5, 0.5]), left_out, rng=np.random.default_rng(0), resamples=100
        )
        assert detectable_gap(tests, 0, [1], LEVEL, most_freedom=np.inf) is None


class TestGroupsNeeded:
    @pytest.mark.parametrize("gap", [0.005, 0.02])
    def test_with_as_many_groups_as_are_needed_the_gap_is_the_detectable_one(self, gap):
        influences = np.random.default_rng(0).normal(0, 0.001, 50)
        tests = JointTests.from_influences(
            np.array([0.5, 0.5]),
            np.stack([np.zeros(50), influences]),
            rng=np.random.default_rng(0),
            resamples=100,
        )
        error, freedom = tests.error_of(0, 1, np.inf)
        known = detectable_gap(tests, 0, [1], LEVEL, most_freedom=np.inf)
        options = {"error": error, "freedom": freedom, "groups": 50, "level": LEVEL}
        assert groups_needed(known.median, **options).groups in (50, 51)
        needed = groups_needed(gap, **options)
        assert needed.low < needed.groups < needed.high
        assert groups_needed(gap / 2, **options).groups == pytest.approx(4 * needed.groups, rel=0.3)

    def test_a_variance_from_few_groups_gives_a_wide_range(self):
        few, many = (
            groups_needed(0.01, error=0.01, freedom=freedom, groups=50, level=LEVEL)
            for freedom in (4.0, 40.0)
        )
        assert few.high / few.low > many.high / many.low > 1


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
