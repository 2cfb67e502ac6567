"""The dense CRF's options and input: what is refused, and what changes nothing."""

import numpy as np
import pytest

from evaluation.core.errors import BadSpec
from postproc.steps import STEPS

BACKENDS = ["ours", "torch", "numpy", "pydensecrf", "exact"]


def build(spec, classes=3):
    return STEPS.build(spec, classes=classes, ignore=0, floor=2.0**-25)


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("iterations", 0),
        ("gaussian_sxy", -1),
        ("bilateral_sxy", 0),
        ("bilateral_srgb", -13),
        ("bilateral_compat", -1),
        ("floor", 0),
        ("quality", "low"),
        ("backend", "numba"),
    ],
)
def test_a_bad_value_is_refused_by_its_options_name(option, value):
    with pytest.raises(BadSpec, match=option):
        build(f"crf({option}={value})")


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("channels", [1, 3])
def test_zero_weights_change_nothing(backend, channels):
    rng = np.random.default_rng(0)
    maps = rng.dirichlet(np.ones(3), (2, 5, 7)).transpose(0, 3, 1, 2).astype(np.float32)
    images = rng.integers(0, 256, (2, channels, 5, 7), np.uint8)
    step = build(f"crf(gaussian_compat=0, bilateral_compat=0, backend={backend})")
    np.testing.assert_allclose(step.apply(maps, images), maps, atol=1e-6)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("channels", [1, 3])
def test_maps_of_nothing_but_zeros_become_even(backend, channels):
    images = np.random.default_rng(1).integers(90, 110, (1, channels, 6, 5), np.uint8)
    found = build(f"crf(backend={backend})").apply(np.zeros((1, 3, 6, 5), np.float32), images)
    np.testing.assert_allclose(found, 1 / 3, atol=1e-5)
