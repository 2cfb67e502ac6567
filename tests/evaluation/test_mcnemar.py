"""McNemar's test of two label maps: loops over pixels, exact tails, and its size over groups."""

import math

import numpy as np
import pytest

from evaluation.mcnemar import count_discordant, mcnemar


def drawn(seed=0, shape=(5, 4, 6), shares=(0.6, 0.7)):
    rng = np.random.default_rng(seed)
    target = rng.integers(0, 3, shape).astype(np.uint8)
    preds = [
        np.where(rng.random(shape) < share, target, rng.integers(0, 3, shape)).astype(np.uint8)
        for share in shares
    ]
    target[:, 0, 0] = 255
    return target, *preds


@pytest.mark.parametrize("ignore", [None, 1])
def test_pixels_are_counted_as_in_a_loop(ignore):
    target, before, after = drawn()
    expected = np.zeros((len(target), 3), int)
    for image, row, col in np.ndindex(target.shape):
        label = target[image, row, col]
        if label in (255, ignore):
            continue
        right = before[image, row, col] == label, after[image, row, col] == label
        expected[image] += [right == (True, False), right == (False, True), True]
    found = count_discordant(target, before, after, ignore=ignore)
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize(("before", "after"), [(0, 0), (3, 3), (1, 7), (12, 2), (40, 61)])
def test_the_p_value_over_pixels_is_the_exact_one(before, after):
    """Twice the smaller tail of a fair coin, as statsmodels 0.15's `mcnemar(exact=True)`."""
    result = mcnemar(np.array([[before, after, 200]]), np.zeros(1, int))
    number = before + after
    tail = sum(math.comb(number, k) for k in range(min(before, after) + 1)) / 2**number
    assert result.p_pixels == pytest.approx(min(1, 2 * tail))
    assert (result.only_before, result.only_after, result.pixels) == (before, after, 200)


def test_the_p_value_over_groups_by_hand():
    # Differences of -3/20, -1/10 and 0: (.25)^2 / (.0225 + .01) = 1.923, a normal deviate of 1.387.
    counts = np.array([[1, 4, 20], [0, 1, 5], [0, 0, 5], [2, 2, 9], [0, 0, 0]])
    result = mcnemar(counts, np.array(["a", "b", "b", "c", "d"]))
    assert result.groups == 3
    assert result.p_groups == pytest.approx(math.erfc(math.sqrt(0.0625 / 0.0325 / 2)))


def test_the_same_labels_twice_differ_in_no_group():
    target, before, _ = drawn()
    result = mcnemar(count_discordant(target, before, before, ignore=None), np.arange(5))
    assert result.p_pixels == 1
    assert math.isnan(result.p_groups)
    assert result.to_dict()["p_groups"] is None


def test_equal_predictions_of_alike_pixels_are_told_apart_by_pixels_but_not_by_groups():
    """All pixels of an image are right or wrong together, in either prediction by chance."""
    rng = np.random.default_rng(1)
    target = np.zeros((40, 8, 8), np.uint8)
    by_pixels = by_groups = 0
    for _ in range(200):
        preds = [np.broadcast_to(rng.integers(0, 2, (40, 1, 1)), target.shape) for _ in "ab"]
        result = mcnemar(count_discordant(target, *preds, ignore=None), np.arange(40))
        by_pixels += result.p_pixels <= 0.05
        by_groups += result.p_groups <= 0.05
    assert by_pixels > 100
    assert by_groups < 24  # 5 % of 200 are 10; a fair test exceeds 23 once in 10,000 times
