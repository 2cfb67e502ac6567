"""What members are worth, how they differ and where they are unsure: laws, by hand, referees."""

from itertools import combinations, pairwise, permutations

import numpy as np
import pytest

from ensemble.diversity.disagreement import (
    PairCounts,
    count_pairs,
    entropy,
    measure_pairs,
    uncertainty,
)
from ensemble.diversity.member_worth import (
    EXACT_MEMBERS,
    eliminate_members,
    exact_estimator,
    sampled_estimator,
    shapley,
    shapley_estimator,
    size_curve,
    subsets_without_one,
)
from ensemble.diversity.subset_scorer import (
    ScoreDifference,
    SubsetCounts,
    SubsetScorer,
    group_indices,
)
from ensemble.strategies.means import mean
from evaluation.confusion import confusion
from evaluation.core.arrays import argmax
from evaluation.core.classes import UNLABELLED
from evaluation.intervals import (
    Interval,
    group_sums,
    interval,
    paired_interval,
)
from evaluation.protocols import masked
from members.maps import ArrayMaps

IMAGES, CLASSES, ROWS, COLS = 70, 4, 5, 6  # one whole block and a part
GROUPS = np.arange(IMAGES) // 4


def drawn(sharpness, *, seed=0):
    """Draw target and one map a member, right the more often the sharper."""
    rng = np.random.default_rng(seed)
    target = rng.integers(0, CLASSES, (IMAGES, ROWS, COLS)).astype(np.uint8)
    right = np.eye(CLASSES, dtype=np.float32)[target].transpose(0, 3, 1, 2)
    maps = [s * right + rng.random(right.shape, dtype=np.float32) for s in sharpness]
    target[:, 0, 0] = UNLABELLED
    return target, np.stack([one / one.sum(axis=1, keepdims=True) for one in maps])


def readers(maps):
    return [ArrayMaps(f"m{place}", one) for place, one in enumerate(maps)]


def judge(target, maps, *, groups=GROUPS):
    places = np.unique(groups, return_inverse=True)[1]
    counts = SubsetCounts(readers(maps), target, places.astype(np.int64))
    return SubsetScorer(counts, masked(), 0, seed=0)


class TestSubsetCounts:
    def test_are_those_of_the_fused_mean_whatever_the_blocks(self):
        target, maps = drawn([0.3, 0.5, 0.1, 0.4])
        subsets = [(0,), (2, 3), (0, 1, 3), (0, 1, 2, 3), (1,)]
        found = judge(target, maps).counts.of(subsets)
        for subset, sums in zip(subsets, found, strict=True):
            pred = mean()(maps[list(subset)]).argmax(axis=1).astype(np.uint8)
            counts = confusion(target, pred, classes=CLASSES)
            np.testing.assert_array_equal(sums, group_sums(counts[None], GROUPS)[0])

    def test_of_small_pieces_are_those_of_large_ones(self, monkeypatch):
        target, maps = drawn([0.3, 0.5])
        whole = judge(target, maps).counts.of([(0, 1), (1,)])
        monkeypatch.setattr("ensemble.diversity.subset_scorer.PIECE_VALUES", 1)
        np.testing.assert_array_equal(judge(target, maps).counts.of([(0, 1), (1,)]), whole)

    def test_do_not_read_members_that_no_new_subset_holds(self):
        target, maps = drawn([0.3, 0.5, 0.4])
        counts = judge(target, maps).counts
        expected = counts.of([(1, 2), (2,)])
        fresh = judge(target, maps).counts
        fresh._members[0] = None  # whoever reads it now fails
        np.testing.assert_array_equal(fresh.of([(1, 2), (2,)]), expected)

    def test_go_over_the_maps_once_for_what_is_known_already(self):
        target, maps = drawn([0.3, 0.5])
        counts = judge(target, maps).counts
        first = counts.of([(0, 1), (0,)])
        counts._members = []  # whoever reads now fails
        np.testing.assert_array_equal(counts.of([(0,), (0, 1)]), first[::-1])

    @pytest.mark.parametrize("classes", [2, 5])
    def test_the_highest_class_is_the_first_of_equals_as_argmax_has_it(self, classes):
        scores = np.random.default_rng(0).integers(0, 3, (6, classes, 7, 8)).astype(np.float32)
        np.testing.assert_array_equal(argmax(scores), scores.argmax(axis=1))

    def test_groups_come_together_only_where_memory_asks_for_it(self, monkeypatch):
        def places():
            return group_indices(GROUPS, subsets=4, classes=5, rng=np.random.default_rng(0))

        np.testing.assert_array_equal(places(), GROUPS)
        monkeypatch.setattr("ensemble.diversity.subset_scorer.SUMS_BYTES", 6 * 8 * 4 * 25)
        few = places()
        assert set(few) == set(range(6))
        for group in np.unique(GROUPS):
            assert len(set(few[group == GROUPS])) == 1


def brute_force(scores, members):
    """Average what a member adds over all orders."""
    values = np.zeros(members)
    orders = list(permutations(range(members)))
    for order in orders:
        for size, member in enumerate(order):
            before = scores[tuple(sorted(order[:size]))] if size else 0.0
            values[member] += scores[tuple(sorted(order[: size + 1]))] - before
    return values / len(orders)


def game(members, *, seed=0):
    shares = exact_estimator(members)
    return shares, np.random.default_rng(seed).random(len(shares.subsets))


class TestShapley:
    @pytest.mark.parametrize("members", [1, 2, 3, 5])
    def test_exact_values_are_the_average_over_all_orders(self, members):
        shares, scores = game(members)
        expected = brute_force(dict(zip(shares.subsets, scores, strict=True)), members)
        np.testing.assert_allclose(shares.values(scores), expected)
        assert (shares.sampling_errors(scores) == 0).all()

    def test_values_sum_to_the_score_of_all_even_of_few_circles(self):
        for shares in (
            exact_estimator(5),
            sampled_estimator(5, permutations=2, rng=np.random.default_rng(1)),
        ):
            scores = np.random.default_rng(0).random((len(shares.subsets), 3))
            whole = scores[shares.subsets.index((0, 1, 2, 3, 4))]
            np.testing.assert_allclose(shares.values(scores).sum(axis=0), whole)

    def test_sampled_values_come_close_to_the_exact_ones_by_their_error(self):
        shares, scores = game(5)
        known = dict(zip(shares.subsets, scores, strict=True))
        few, many = (
            sampled_estimator(5, permutations=n, rng=np.random.default_rng(2)) for n in (20, 1600)
        )
        errors = []
        for some in (few, many):
            mine = np.array([known[subset] for subset in some.subsets])
            off = np.abs(some.values(mine) - shares.values(scores))
            assert (off < 4 * some.sampling_errors(mine)).all()
            errors.append(some.sampling_errors(mine).max())
        assert errors[1] < errors[0] / 6  # by the square root of 80
        assert errors[1] < 0.01

    def test_each_member_takes_each_place_as_often(self):
        """What a member adds depends on its place alone here, so nothing is left to chance."""
        some = sampled_estimator(6, permutations=2, rng=np.random.default_rng(0))
        scores = np.array([np.sqrt(len(subset) / 6) for subset in some.subsets])
        np.testing.assert_allclose(some.values(scores), 1 / 6)
        np.testing.assert_allclose(some.sampling_errors(scores), 0, atol=1e-12)

    def test_each_member_comes_before_each_other_as_often(self):
        """Two members that work only together share their work evenly, by one circle already."""
        some = sampled_estimator(6, permutations=2, rng=np.random.default_rng(0))
        scores = np.array([float({1, 4} <= set(subset)) for subset in some.subsets])
        np.testing.assert_allclose(some.values(scores), [0, 0.5, 0, 0, 0.5, 0], atol=1e-12)
        np.testing.assert_allclose(some.sampling_errors(scores), 0, atol=1e-12)

    def test_circles_are_drawn_only_where_members_are_many(self):
        rng = np.random.default_rng(0)
        assert shapley_estimator(EXACT_MEMBERS, permutations=4, rng=rng).exact
        many = shapley_estimator(EXACT_MEMBERS + 1, permutations=2, rng=rng)
        assert not many.exact
        a_circle = EXACT_MEMBERS * (EXACT_MEMBERS + 1)
        assert a_circle < len(many.subsets) <= 2 * a_circle + 1

    def test_twins_are_worth_the_same_and_all_intervals_hold_their_value(self):
        target, maps = drawn([0.4, 0.2, 0.05])
        found = shapley(judge(target, np.concatenate([maps, maps[:1]])), exact_estimator(4))
        assert found.value[0] == pytest.approx(found.value[3])
        assert found.value[0] > found.value[1] > found.value[2]
        for value, ends in zip(found.value, found.intervals, strict=True):
            assert ends.low < value < ends.high

    def test_the_interval_of_one_member_is_that_of_its_score(self):
        target, maps = drawn([0.4])
        ends = shapley(judge(target, maps), exact_estimator(1)).intervals[0]
        pred = maps[0].argmax(axis=1).astype(np.uint8)
        counts = confusion(target, pred, classes=CLASSES)
        rng = np.random.default_rng(0)
        options = {"rng": rng, "method": "expanded_percentile", "resamples": 2000}
        assert ends == interval(counts, GROUPS, masked(), 0, **options)


class TestChange:
    def test_is_the_difference_of_two_scores_with_the_paired_interval(self):
        target, maps = drawn([0.4, 0.3])
        a, b = (confusion(target, m.argmax(axis=1).astype(np.uint8), classes=CLASSES) for m in maps)
        found = judge(target, maps).change((0,), (1,))
        expected = masked()(a.sum(axis=0), 0).miou - masked()(b.sum(axis=0), 0).miou
        assert found.value == pytest.approx(float(expected))
        ends = paired_interval(a, b, GROUPS, masked(), 0, rng=np.random.default_rng(0))
        assert found.interval == ends
        assert found.half_width == pytest.approx((ends.high - ends.low) / 2)

    def test_of_one_group_has_no_interval(self):
        target, maps = drawn([0.4, 0.3])
        found = judge(target, maps, groups=np.zeros(IMAGES)).change((0,), (1,))
        assert found.interval is None
        assert found.half_width is None

    @pytest.mark.parametrize(
        ("value", "high", "within"),
        [
            pytest.param(-0.001, 0.001, True, id="a small loss that may be none"),
            pytest.param(-0.001, -0.0005, False, id="a small loss for sure"),
            pytest.param(-0.003, 0.001, False, id="a large loss that may be none"),
            pytest.param(0.003, 0.004, True, id="a gain for sure"),
            pytest.param(-0.001, None, True, id="a small loss of nobody knows what noise"),
        ],
    )
    def test_tells_a_loss_from_noise(self, value, high, within):
        ends = None if high is None else Interval(value - 1, high, 0.95)
        assert ScoreDifference(value, ends).within_noise(0.002) is within


class TestEliminate:
    def test_a_duplicate_has_no_value_and_goes(self):
        target, maps = drawn([0.5, 0.5, 0.5], seed=3)
        four = judge(target, np.concatenate([maps, maps[2:]]))
        everyone = (0, 1, 2, 3)
        gains = [four.change(everyone, others).value for others in subsets_without_one(everyone)]
        assert gains[2] == gains[3]
        assert max(gains[2], gains[3]) < min(gains[0], gains[1])
        found = eliminate_members(four, 4, tolerance=0.002)
        assert found.steps[0].dropped in (2, 3)
        assert found.refused.dropped in found.steps[-1].kept

    def test_what_is_exactly_twice_there_changes_nothing(self):
        target, maps = drawn([0.5])
        twice = judge(target, np.concatenate([maps, maps]))
        assert twice.change((0, 1), (0,)) == ScoreDifference(0.0, Interval(0.0, 0.0, 0.95))
        found = eliminate_members(twice, 2, tolerance=0.002)
        assert [step.kept for step in found.steps] == [(1,)]
        assert found.refused is None

    def test_noise_goes_first_and_no_more_than_the_tolerance_is_lost(self):
        target, maps = drawn([0.6, 0.0, 0.6, 0.6])
        found = eliminate_members(judge(target, maps), 4, tolerance=0.002)
        assert found.steps[0].dropped == 1
        assert found.steps[0].change.value > 0
        assert all(step.change.value > -0.002 for step in found.steps)
        assert found.refused.change.value <= -0.002 or found.refused.change.interval.high < 0

    def test_the_best_of_each_step_goes(self):
        target, maps = drawn([0.3, 0.2, 0.25, 0.1])
        four = judge(target, maps)
        found = eliminate_members(four, 4, tolerance=1.0)
        kept: tuple[int, ...] = (0, 1, 2, 3)
        for step in found.steps:
            scores = four.score(subsets_without_one(kept)).miou
            assert four.score([step.kept]).miou[0] == scores.max()
            assert {*step.kept, step.dropped} == set(kept)
            kept = step.kept


class TestGrowth:
    def test_averages_what_each_number_of_members_scores(self):
        target, maps = drawn([0.5, 0.3, 0.1])
        three = judge(target, maps)
        found = size_curve(three, exact_estimator(3).subsets)
        known = {size: three.score(list(combinations(range(3), size))).miou for size in (1, 2, 3)}
        assert [size.members for size in found] == [1, 2, 3]
        for size in found:
            assert size.miou == pytest.approx(known[size.members].mean())
        assert found[0].gain is None
        for fewer, more in pairwise(found):
            assert more.gain.value == pytest.approx(more.miou - fewer.miou)
            assert more.gain.interval.low < more.gain.value < more.gain.interval.high

    def test_a_twin_gains_nothing_for_sure(self):
        target, maps = drawn([0.5])
        _, two = size_curve(judge(target, np.concatenate([maps, maps])), exact_estimator(2).subsets)
        assert two.gain == ScoreDifference(0.0, Interval(0.0, 0.0, 0.95))

    def test_sizes_that_are_not_there_are_left_out(self):
        target, maps = drawn([0.5, 0.3, 0.1])
        found = size_curve(judge(target, maps), [(0,), (1,), (2,), (0, 1, 2)])
        assert [(size.members, size.gain) for size in found] == [(1, None), (3, None)]


def pair_counts(both_right, pixels):
    both = np.array(both_right)
    return PairCounts(both, np.full_like(both, pixels), pixels)


class TestPairs:
    def test_by_hand(self):
        """Right in both, in the first, in the second, in none: one pixel each but two in both."""
        both = np.array([[3, 2], [2, 3]])
        found = measure_pairs(pair_counts(both, 5))
        np.testing.assert_allclose(found.disagreement, [[0, 2 / 5], [2 / 5, 0]], atol=1e-12)
        np.testing.assert_allclose(found.double_fault, [[2 / 5, 1 / 5], [1 / 5, 2 / 5]])
        np.testing.assert_allclose(found.correlation, [[1, 1 / 6], [1 / 6, 1]])
        np.testing.assert_allclose(found.q_statistic, [[1, 1 / 3], [1 / 3, 1]])

    def test_four_pixels_by_hand_the_ignored_and_the_unlabelled_left_out(self):
        target = np.array([[[1, 1, 2, 2, 0, 255]]], np.uint8)
        preds = [[1, 2, 2, 1, 1, 1], [1, 1, 1, 1, 0, 2]]  # right 1010, 1100
        maps = [np.eye(3, dtype=np.float32)[[[g]]].transpose(0, 3, 1, 2) for g in preds]
        counts = count_pairs(readers(maps), target, ignore=0)
        assert counts.pixels == 4
        np.testing.assert_array_equal(counts.both_right, [[2, 1], [1, 2]])
        np.testing.assert_array_equal(counts.same_label, [[4, 2], [2, 4]])
        found = measure_pairs(counts)
        assert found.disagreement[0, 1] == 0.5
        assert found.double_fault[0, 1] == 0.25
        assert found.correlation[0, 1] == found.q_statistic[0, 1] == 0
        assert found.label_disagreement[0, 1] == 0.5

    def test_the_correlation_is_pearsons_of_right_and_wrong(self):
        target, maps = drawn([0.3, 0.5, 0.1])
        counts = count_pairs(readers(maps), target, ignore=None)
        right = (maps.argmax(axis=2) == target)[:, target != UNLABELLED]
        assert counts.pixels == right.shape[1]
        found = measure_pairs(counts)
        np.testing.assert_allclose(found.correlation, np.corrcoef(right), atol=1e-12)
        np.testing.assert_allclose(found.disagreement[0, 1], (right[0] != right[1]).mean())
        np.testing.assert_allclose(found.double_fault[0, 1], (~right[0] & ~right[1]).mean())

    def test_q_and_label_disagreement_are_those_of_loops_over_pixels(self):
        """Written as in DESlib 0.3.7, `Q_statistic`, with which it was compared by hand."""
        target, maps = drawn([0.3, 0.5, 0.1])
        found = measure_pairs(count_pairs(readers(maps), target, ignore=1))
        scored = (target != UNLABELLED) & (target != 1)
        preds, true = maps.argmax(axis=2)[:, scored], target[scored]
        for a, b in combinations(range(3), 2):
            table, other = np.zeros((2, 2)), 0
            for first, second, label in zip(preds[a], preds[b], true, strict=True):
                table[int(first == label), int(second == label)] += 1
                other += first != second
            alike, apart = table[1, 1] * table[0, 0], table[0, 1] * table[1, 0]
            assert found.q_statistic[a, b] == pytest.approx((alike - apart) / (alike + apart))
            assert found.label_disagreement[a, b] == pytest.approx(other / len(true))

    def test_a_member_that_is_always_right_correlates_with_nobody(self):
        found = measure_pairs(pair_counts([[4, 2], [2, 2]], 4))
        assert np.isnan(found.correlation[0]).all()
        assert np.isnan(found.q_statistic[0]).all()
        assert found.correlation[1, 1] == 1
        assert found.disagreement[0, 1] == 0.5


def pixel(*members):
    return np.array(members, np.float32)[:, None, :, None, None]


class TestUncertainty:
    def test_members_that_say_the_same_have_no_mutual_information(self):
        whole, mutual = uncertainty(pixel([0.5, 0.25, 0.25], [0.5, 0.25, 0.25]))
        np.testing.assert_allclose(whole, 1.5 * np.log(2), rtol=1e-6)
        np.testing.assert_allclose(mutual, 0, atol=1e-6)

    def test_two_sure_members_of_different_mind_have_log_2(self):
        whole, mutual = uncertainty(pixel([1, 0, 0], [0, 1, 0]))
        np.testing.assert_allclose(whole, np.log(2), rtol=1e-6)
        np.testing.assert_allclose(mutual, np.log(2), rtol=1e-6)

    def test_entropy_goes_from_nothing_to_the_logarithm_of_the_classes(self):
        found = entropy(pixel([1, 0, 0, 0], [0.25, 0.25, 0.25, 0.25]))
        np.testing.assert_allclose(found.ravel(), [0, np.log(4)], rtol=1e-6)

    def test_rounded_sums_are_made_1(self):
        _, maps = drawn([0.5, 0.1])
        for plain, scaled in zip(uncertainty(maps), uncertainty(maps * 0.99), strict=True):
            np.testing.assert_allclose(plain, scaled, atol=1e-5)

    def test_mutual_information_lies_between_nothing_and_the_entropy(self):
        _, maps = drawn([0.5, 0.1, 3])
        whole, mutual = uncertainty(maps)
        assert (mutual >= 0).all()
        assert (mutual <= whole + 1e-6).all()
        assert mutual.mean() > 0.01
