"""The difference between two recipes, over trainings and groups of images."""

import numpy as np
import pytest

from evaluation.core.errors import BadData
from evaluation.recipes import RecipeScores, compare_recipes


def recipe(name, *, mean=0.5, trainings=3, groups=24, by_training=0.01, by_group=0.01, seed=0):
    """Trainings whose scores and influences have about these standard errors."""
    rng = np.random.default_rng(seed)
    shared = rng.normal(0, by_group / np.sqrt(groups), groups)
    own = rng.normal(0, 1e-6, (trainings, groups))
    return RecipeScores(name, mean + rng.normal(0, by_training, trainings), shared + own)


def half_width(difference):
    return (difference.interval.high - difference.interval.low) / 2


def test_without_errors_over_images_it_is_welchs_interval():
    from scipy import stats

    a, b = recipe("a", by_group=0), recipe("b", mean=0.6, by_group=0, trainings=5, seed=1)
    result = compare_recipes(a, b)
    expected = stats.ttest_ind(a.scores, b.scores, equal_var=False)
    ends = expected.confidence_interval(0.95)
    assert (result.interval.low, result.interval.high) == pytest.approx((ends.low, ends.high), 1e-3)
    assert result.freedom == pytest.approx(expected.df, 1e-3)


def test_without_errors_over_trainings_it_is_the_paired_interval():
    from evaluation.intervals import student_ends

    a, b = recipe("a", by_training=0), recipe("b", by_training=0, seed=1)
    result = compare_recipes(a, b)
    left_out = a.left_out.mean(axis=0) - b.left_out.mean(axis=0)
    ends = student_ends(result.value, left_out, level=0.95, is_share=False)
    assert (result.interval.low, result.interval.high) == pytest.approx(ends, rel=1e-3)


def test_two_trainings_are_as_wide_as_they_are():
    two, five = (
        compare_recipes(recipe("a", trainings=t), recipe("b", trainings=t, seed=1)) for t in (2, 5)
    )
    assert two.freedom < five.freedom
    assert half_width(two) > 1.5 * half_width(five)


def test_the_two_parts_say_what_more_trainings_and_more_images_would_remove():
    trainings = compare_recipes(recipe("a", by_group=0.001), recipe("b", by_group=0.001, seed=1))
    images = compare_recipes(
        recipe("a", by_training=0.001, by_group=0.05),
        recipe("b", by_training=0.001, by_group=0.05, seed=1),
    )
    assert trainings.by_trainings > 5 * trainings.by_images
    assert images.by_images > 5 * images.by_trainings


def test_what_groups_and_trainings_share_is_not_counted_twice():
    rng = np.random.default_rng(0)
    groups, trainings = 400, 40
    each = [rng.normal(0, 1, (trainings, groups)) for _ in range(2)]
    a, b = (
        RecipeScores(n, x.mean(axis=1), (x.sum(axis=1, keepdims=True) - x) / (groups - 1))
        for n, x in zip("ab", each, strict=True)
    )
    result = compare_recipes(a, b)
    true_error = np.sqrt(2 / groups / trainings)
    assert half_width(result) == pytest.approx(1.97 * true_error, rel=0.25)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        (recipe("b", trainings=1), "recipe 'b' has one training; expected two or more"),
        (recipe("b", groups=1), "of one group"),
        (RecipeScores("b", np.full(3, np.nan), np.zeros((3, 24))), "metric is undefined"),
        (RecipeScores("b", np.full(3, 0.5), np.zeros((3, 24))), "the same scores"),
    ],
    ids=["one training", "one group", "undefined", "equal seeds"],
)
def test_what_has_no_interval_is_refused(changed, message):
    with pytest.raises(BadData, match=message):
        compare_recipes(recipe("a"), changed)
