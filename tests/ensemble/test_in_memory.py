"""Fusion of arrays: what comes out, and what is refused."""

import numpy as np
import pytest

from ensemble.api import fuse_maps
from evaluation.core.errors import BadLabels, BadMaps, BadSpec


def drawn(classes=3, images=6, seed=0):
    maps = np.random.default_rng(seed).random((images, classes, 4, 5), np.float32)
    return maps / maps.sum(axis=1, keepdims=True)


TARGET = np.random.default_rng(9).integers(0, 3, (6, 4, 5), dtype=np.uint8)
TWO = [drawn(seed=1), drawn(seed=2)]


def test_the_mean_is_that_of_numpy_whatever_the_type():
    expected = np.mean(TWO, axis=0)
    np.testing.assert_allclose(fuse_maps(TWO), expected, atol=1e-6)
    scaled = [np.rint(maps * 255).astype(np.uint8) for maps in TWO]
    np.testing.assert_allclose(fuse_maps(scaled), expected, atol=1 / 100)


def test_one_member_is_its_own_mean():
    np.testing.assert_allclose(fuse_maps(TWO[:1]), TWO[0], rtol=1e-6)


def test_a_strategy_that_learns_learns_from_the_held_out_maps():
    held_out = [drawn(seed=3), 0.8 * (TARGET[:, None] == np.arange(3)[:, None, None]) + 0.2 / 3]
    fused = fuse_maps(TWO, "weighted_mean", fit_maps=held_out, fit_target=TARGET)
    np.testing.assert_allclose(fused, TWO[1], atol=0.05)


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({"fit_maps": ()}, BadSpec, r"stacking learns: expected fit_target and 2 fit_maps"),
        ({"fit_maps": [drawn(4)] * 2}, BadMaps, r"fit_maps\[0\] has 4 classes; expected 3 as maps"),
        ({"fit_maps": [drawn(images=5)] * 2}, BadLabels, r"target has shape \(6, 4, 5\)"),
        ({"ignore": 3}, BadSpec, "ignore=3 with 3 classes; expected 0 to 2"),
        ({"ignore": -1}, BadSpec, "ignore=-1 with 3 classes; expected 0 to 2"),
    ],
)
def test_what_does_not_fit_is_refused(options, error, words):
    with pytest.raises(error, match=words):
        fuse_maps(TWO, "stacking", **{"fit_maps": TWO, "fit_target": TARGET, **options})


def test_no_maps_are_refused():
    with pytest.raises(BadMaps, match="no maps were given; expected one array a member"):
        fuse_maps([])
