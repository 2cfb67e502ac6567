"""Time of each post-processing step on a block of 64 maps of 5 x 64 x 128."""

import numpy as np
import pytest
from scipy import ndimage

from evaluation.core.arrays import argmax
from postproc.steps import STEPS

IMAGES, CLASSES, ROWS, COLS = 64, 5, 64, 128


@pytest.fixture(scope="module")
def maps():
    """Patches of some ten pixels with specks, as networks give them."""
    rng = np.random.default_rng(0)
    noise = rng.standard_normal((IMAGES, CLASSES, ROWS, COLS))
    patches = 30 * ndimage.gaussian_filter(noise, 5, axes=(2, 3)) + 0.5 * noise
    exponent = np.exp(patches)
    return (exponent / exponent.sum(axis=1, keepdims=True)).astype(np.float32)


@pytest.fixture(scope="module")
def images():
    """Images with edges at several scales."""
    noise = np.random.default_rng(1).standard_normal((IMAGES, 1, ROWS, COLS))
    rough = ndimage.gaussian_filter(noise, 5, axes=(2, 3))
    return np.clip(128 + 600 * rough + 5 * noise, 0, 255).astype(np.uint8)


SPECS = [
    *sorted(set(STEPS) - {"class_bias", "threshold"}),
    "class_bias(bias=['-inf', 0, 0.1, 0.2, 0.3])",
    "threshold(at=[0.1, 0.2, 0.2, 0.2, 0.3])",
    "remove_small(refill=majority)",
    "remove_small(refill=next_best)",
]


@pytest.mark.parametrize("spec", SPECS)
def test_a_step_on_a_block(benchmark, spec, maps, images):
    step = STEPS.build(spec, classes=CLASSES, ignore=0, floor=2.0**-25)
    values = maps if step.input == "maps" else argmax(maps)
    benchmark.pedantic(step.apply, args=(values, images), rounds=3, warmup_rounds=1)
    benchmark.extra_info["ms an image"] = 1e3 * benchmark.stats.stats.min / IMAGES


def test_the_plain_argmax_on_a_block(benchmark, maps):
    benchmark.pedantic(argmax, args=(maps,), rounds=3, warmup_rounds=1)
