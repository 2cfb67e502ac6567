"""Gaps to the first, and the Pareto front of score against cost."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from evaluation.protocols import PROTOCOLS
from evaluation.scores import CandidateScores, ScoredImages
from evaluation.significance import gaps_to_first, num_pairs, on_pareto_front

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
    def test_are_to_the_highest_under_every_protocol(self, protocol):
        measured, found = gaps(
            *(candidate(share, seed) for seed, share in enumerate((0.5, 0.8, 0.2))),
            protocol=protocol,
        )
        assert found[1] is None
        for place in (0, 2):
            gap = found[place]
            assert gap.value == pytest.approx(measured.mious[place] - measured.mious[1])
            assert gap.interval.low <= gap.value <= gap.interval.high < 0
            assert gap.told_apart

    def test_what_may_be_chance_is_not_told_apart(self):
        _, (first, near, far) = gaps(candidate(0.6), candidate(0.6, seed=1), candidate(0.3))
        near = near or first
        assert not near.told_apart
        assert far.told_apart

    def test_every_pair_counts_in_the_correction(self):
        _, (_, one) = gaps(candidate(0.6), candidate(0.55, seed=1))
        many = [candidate(0.3, seed=s) for s in range(2, 7)]
        _, (_, same, *_) = gaps(candidate(0.6), candidate(0.55, seed=1), *many)
        assert one.p == one.p_alone
        assert same.p == min(1, same.p_alone * (num_pairs(7) - 5))

    def test_nothing_scored_has_no_first(self):
        nothing = ScoredImages(np.zeros((2, 3, 3), int), ("a", "b"), np.arange(2))
        assert gaps(nothing, nothing)[1] == [None, None]

    def test_one_that_scored_nothing_has_no_p(self):
        nothing = ScoredImages(
            np.zeros((IMAGES, 3, 3), int), candidate(0.5).ids, candidate(0.5).groups
        )
        _, (first, gap) = gaps(candidate(0.5), nothing)
        assert first is None
        assert math.isnan(gap.p)
        assert gap.interval is None
        assert not gap.told_apart


class TestFront:
    def test_by_hand(self):
        scores, costs = [0.9, 0.8, 0.8, 0.7, 0.6], [9.0, 5.0, 4.0, 4.0, 1.0]
        assert on_pareto_front(scores, costs) == [True, False, True, False, True]

    def test_every_score_needs_a_cost(self):
        with pytest.raises(ValueError, match="shorter"):
            on_pareto_front([0.5, 0.6], [2.0])

    def test_equals_are_both_on_it(self):
        assert on_pareto_front([0.5, 0.5], [2.0, 2.0]) == [True, True]

    def test_unknown_costs_are_not_on_it_and_beat_nobody(self):
        assert on_pareto_front([0.9, 0.5, math.nan], [math.nan, 2.0, 1.0]) == [False, True, False]

    @given(st.lists(st.tuples(st.floats(0, 1), st.floats(0, 9)), min_size=1, max_size=9))
    def test_whoever_is_not_on_it_is_beaten_by_one_who_is(self, points):
        front = on_pareto_front(*zip(*points, strict=True))
        best = [point for point, on_it in zip(points, front, strict=True) if on_it]
        assert max(points)[0] == max(best)[0]
        for score, cost in points:
            assert any(s >= score and c <= cost for s, c in best)
