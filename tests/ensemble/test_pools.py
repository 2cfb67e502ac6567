"""What pools class by class without learning: means of all kinds, and order statistics."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import expit, logit

from ensemble.strategies import STRATEGIES

CLASSES = 4
seeds = st.integers(0, 2**32 - 1)
few = settings(max_examples=10, deadline=None)


def drawn(seed, members=3, alpha=0.5):
    rng = np.random.default_rng(seed)
    maps = rng.dirichlet(np.full(CLASSES, alpha), size=(members, 3, 5, 6))
    return np.moveaxis(maps, -1, 2).astype(np.float32)


def fuse(spec, maps):
    return STRATEGIES.build(spec)(maps)


def pixel(*members):
    return np.array(members, np.float32)[:, None, :, None, None]


def renormalised(scores):
    return scores / scores.sum(axis=1, keepdims=True)


class TestAgainstTheFormula:
    @few
    @given(seed=seeds, members=st.integers(1, 5))
    def test_harmonic_mean(self, seed, members):
        maps = drawn(seed, members)
        expected = 1 / (1 / np.maximum(maps.astype(float), 1e-4)).mean(axis=0)
        fused = fuse("harmonic_mean(floor=1e-4)", maps)
        np.testing.assert_allclose(fused, renormalised(expected), rtol=1e-4)

    @few
    @given(seed=seeds, exponent=st.integers(1, 12))
    def test_power_mean(self, seed, exponent):
        maps = drawn(seed)
        expected = renormalised((maps.astype(float) ** exponent).mean(axis=0))
        fused = fuse(f"power_mean(exponent={exponent})", maps)
        np.testing.assert_allclose(fused, expected, rtol=1e-4, atol=1e-30)

    @pytest.mark.parametrize("floor", [1e-12, 1e-6, 2**-15, 1 / 510, 0.4])
    @pytest.mark.parametrize("members", [1, 3, 40])
    def test_log_odds(self, floor, members):
        maps = drawn(0, members)
        clipped = np.clip(maps.astype(float), max(floor, 2**-24), 1 - max(floor, 2**-24))
        expected = renormalised(expit(logit(clipped).mean(axis=0)))
        fused = fuse(f"log_odds(floor={floor})", maps)
        np.testing.assert_allclose(fused, expected, rtol=2e-3, atol=1e-7)

    @few
    @given(seed=seeds, members=st.integers(1, 20))
    def test_order_statistics(self, seed, members):
        maps = drawn(seed, members, alpha=2)
        for name, statistic in (("min", np.min), ("median", np.median), ("max", np.max)):
            expected = renormalised(statistic(maps, axis=0))
            np.testing.assert_allclose(fuse(name, maps), expected, rtol=1e-5)


class TestByHand:
    def test_a_zero_vetoes_harder_in_the_harmonic_than_in_the_geometric_mean(self):
        maps = pixel([0, 1], [0.5, 0.5])
        fused = {
            n: fuse(f"{n}(floor=0.01)", maps).ravel()[0]
            for n in ("harmonic_mean", "geometric_mean")
        }
        # Against 1 the scores are 2/102 to 2/3, and the square root of 1/200 to that of 1/2.
        np.testing.assert_allclose(fused["harmonic_mean"], 1 / 35, rtol=1e-5)
        np.testing.assert_allclose(fused["geometric_mean"], 1 / 11, rtol=1e-5)

    def test_one_sure_yes_carries_log_odds_but_not_the_geometric_mean(self):
        maps = pixel([0.9999, 0.0001, 0], [0.3, 0.3, 0.4], [0.3, 0.3, 0.4])
        assert fuse("log_odds(floor=1e-4)", maps).ravel()[0] > 0.85
        assert fuse("mean", maps).ravel()[0] < 0.6

    def test_opposite_log_odds_cancel(self):
        fused = fuse("log_odds", pixel([0.999, 0.001], [0.001, 0.999])).ravel()
        np.testing.assert_allclose(fused, 0.5, rtol=1e-4)

    @pytest.mark.parametrize("name", ["log_odds", "harmonic_mean"])
    def test_certain_members_that_contradict_each_other_leave_no_preference(self, name):
        np.testing.assert_allclose(fuse(name, pixel([1, 0], [0, 1])).ravel(), 0.5, rtol=1e-5)

    def test_a_power_makes_the_fused_map_sharper_and_the_sure_member_count_for_more(self):
        maps = pixel([0.9, 0.1], [0.2, 0.8])
        shares = [fuse(f"power_mean(exponent={k})", maps).ravel()[0] for k in (1, 2, 12)]
        np.testing.assert_allclose(shares[0], 0.55, rtol=1e-6)
        np.testing.assert_allclose(shares[1], 0.85 / 1.5, rtol=1e-6)
        assert shares[2] > 0.8

    def test_the_highest_power_leaves_something_of_a_map_that_is_all_alike(self):
        maps = np.full((2, 1, 255, 1, 1), 1 / 255, np.float32)
        np.testing.assert_allclose(fuse("power_mean(exponent=12)", maps), 1 / 255, rtol=1e-4)

    def test_a_wild_minority_does_not_move_the_median(self):
        calm = [0.6, 0.3, 0.1]
        for wild in ([1, 0, 0], [0, 0, 1]):
            fused = fuse("median", pixel(calm, calm, calm, wild, wild)).ravel()
            np.testing.assert_allclose(fused, calm, rtol=1e-6)

    @pytest.mark.parametrize("name", ["min", "median"])
    def test_where_no_class_has_a_score_the_mean_decides_and_only_there(self, name):
        clash = pixel([1, 0, 0], [0, 1, 0], [0, 1, 0] if name == "min" else [0, 0, 1])
        calm = pixel([0.2, 0.4, 0.4], [0.4, 0.2, 0.4], [0.4, 0.2, 0.4])
        fused = fuse(name, np.concatenate([clash, calm], axis=-1))
        np.testing.assert_allclose(fused[..., :1], clash.mean(axis=0), rtol=1e-6)
        np.testing.assert_allclose(fused[..., 1:], fuse(name, calm), rtol=1e-6)
        assert abs(fused[0, 0, 0, 1] - calm.mean(axis=0)[0, 0, 0, 0]) > 0.01
