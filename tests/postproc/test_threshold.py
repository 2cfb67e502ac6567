"""`threshold`: which labels it gives, which one is fitted, and what it refuses."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from evaluation.core.errors import BadSpec
from evaluation.run_metric import SetMetric
from members.maps import ArrayMaps
from postproc.chain import parse_chain
from postproc.fit_chain import fit_chain

seeds = st.integers(0, 2**32 - 1)


def binary(rng, images=3, side=12):
    target = (rng.random((images, side, side)) < 0.2).astype(np.uint8)
    odds = 1.2 * target - 1.5 + rng.normal(size=target.shape)
    second = 1 / (1 + np.exp(-odds))
    return np.stack([1 - second, second], axis=1).astype(np.float32), target


def iou(maps, target, at):
    pred = maps[:, 1] >= at
    return (pred & (target == 1)).sum() / (pred | (target == 1)).sum()


@settings(max_examples=15, deadline=None)
@given(seed=seeds, at=st.floats(0.02, 0.98))
def test_the_foreground_is_where_its_probability_reaches_the_threshold(seed, at):
    maps, _ = binary(np.random.default_rng(seed))
    maps[0, :, 0, 0] = 1 - np.float32(at), np.float32(at)
    labels = parse_chain(f"threshold(at={at})", classes=2, ignore=None)(maps)
    np.testing.assert_array_equal(labels, maps[:, 1] >= np.float32(at))


@pytest.mark.parametrize("seed", range(3))
def test_no_threshold_of_a_grid_scores_higher_than_the_fitted_one(seed):
    maps, target = binary(np.random.default_rng(seed))
    chain = parse_chain("threshold", classes=2, ignore=None, metric=SetMetric("iou", (1,)))
    fitted = fit_chain(chain, ArrayMaps("drawn", maps), target)
    at = fitted.specs[0].options["at"]
    grid = [iou(maps, target, value) for value in np.linspace(0.01, 0.99, 99)]
    assert iou(maps, target, at) >= max(grid) - 2e-3
    assert max(grid) > iou(maps, target, 0.5) + 0.01


def test_thresholds_of_all_classes_give_the_labels_of_class_bias():
    rng = np.random.default_rng(5)
    maps = np.moveaxis(rng.dirichlet(np.ones(4), (3, 9, 9)), -1, 1).astype(np.float32)
    target = rng.integers(4, size=(3, 9, 9)).astype(np.uint8)
    labels = [
        fit_chain(parse_chain(c, classes=4, ignore=None), ArrayMaps("drawn", maps), target)(maps)
        for c in ("threshold", "class_bias")
    ]
    assert (labels[0] == labels[1]).mean() > 0.999


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ("threshold(at=0.5)", "one number; expected 3, one per class"),
        ("threshold(at=[0.5, 0.5])", "2 numbers; expected 3"),
        ("threshold(at=1.5)", "at"),
        ("threshold(at=0.2)|threshold(at=0.3)", "one number|repeated"),
    ],
)
def test_refuses_thresholds_that_mean_nothing(spec, words):
    with pytest.raises(BadSpec, match=words):
        parse_chain(spec, classes=3, ignore=None)
