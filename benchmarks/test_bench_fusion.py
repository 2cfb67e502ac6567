"""How long does a fuse step take, beside one pass that only reads the same bytes?

pytest benchmarks/test_bench_fusion.py --benchmark-only
"""

import numpy as np
import pytest
import SimpleITK

from ensemble.blas import one_blas_thread
from ensemble.fusion import Block, Learned
from ensemble.strategies import STRATEGIES

MEMBERS, PICTURES, CLASSES, ROWS, COLS = 10, 64, 5, 64, 128
CONTEXT = {
    "classes": CLASSES,
    "ignore": 0,
    "floor": 2.0**-15,
    "kinds": ("probabilities",) * MEMBERS,
    "seed": 0,
}
SPECS = [
    *sorted(set(STRATEGIES) - {"weighted_mean"}),
    "majority_vote(ties=first_member)",
    "per_class_vote(votes=hard)",
    "power_mean(exponent=7)",
    f"weighted_mean(weights={[1.0] * MEMBERS})",
    f"weighted_mean(weights={[[1.0] * CLASSES] * MEMBERS})",
]


@pytest.fixture(scope="module")
def maps():
    rng = np.random.default_rng(0)
    scores = rng.exponential(size=(MEMBERS, PICTURES, CLASSES, ROWS, COLS)).astype(np.float32) ** 4
    return scores / scores.sum(axis=2, keepdims=True)


@pytest.fixture(scope="module")
def truth(maps):
    return maps[0].argmax(axis=1)


def fitted(spec, maps, truth):
    strategy = STRATEGIES.build(spec, **CONTEXT)
    return strategy.fit([Block(maps, truth)]) if isinstance(strategy, Learned) else strategy


def test_reading(benchmark, maps):
    benchmark.group = "fuse"
    benchmark(lambda: maps.max())


@pytest.mark.parametrize("spec", SPECS)
def test_fuse(benchmark, spec, maps, truth):
    benchmark.group = "fuse"
    fusion = fitted(spec, maps[:, :4], truth[:4])
    with one_blas_thread():
        benchmark(fusion, maps)


LEARNED = ["evidence", "gate", "greedy", "per_class_vote", "simple", "stacking", "weighted_mean"]


@pytest.mark.parametrize("spec", [*LEARNED, "weighted_mean(per_class=true)"])
def test_fit(benchmark, spec, maps, truth):
    benchmark.group = "fit"
    benchmark.pedantic(fitted, (spec, maps, truth), rounds=2)


@pytest.fixture(scope="module")
def rated():
    """Label maps of members that are right with a probability of their own, on 24 pictures."""
    rng = np.random.default_rng(0)
    shape = (MEMBERS, 24, ROWS, COLS)
    truth = rng.integers(0, CLASSES, (24, ROWS // 4, COLS // 4)).repeat(4, 1).repeat(4, 2)
    right = rng.random(shape) < np.linspace(0.6, 0.95, MEMBERS)[:, None, None, None]
    return np.where(right, truth, rng.integers(0, CLASSES, shape)).astype(np.uint8)


def test_staple(benchmark, rated):
    benchmark.group = "staple"
    maps = np.moveaxis(np.eye(CLASSES, dtype=np.float32)[rated], -1, 2).copy()
    strategy = STRATEGIES.build("staple", **CONTEXT | {"ignore": None})

    def fit_and_fuse():
        return strategy.fit([Block(maps, rated[0])])(maps)

    with one_blas_thread():
        benchmark(fit_and_fuse)


def test_staple_of_simple_itk(benchmark, rated):
    benchmark.group = "staple"
    images = [SimpleITK.GetImageFromArray(np.concatenate(labels)) for labels in rated]
    benchmark(SimpleITK.MultiLabelSTAPLE, images)
