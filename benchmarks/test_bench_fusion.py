"""How long does a fuse step take, beside one pass that only reads the same bytes?

pytest benchmarks/test_bench_fusion.py --benchmark-only
"""

import numpy as np
import pytest

from ensemble.blas import one_blas_thread
from ensemble.fusion import Learned
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
    "per_class_vote(votes=hard)",
    f"weighted_mean(weights={[1.0] * MEMBERS})",
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
    return strategy.fit([(maps, truth)]) if isinstance(strategy, Learned) else strategy


def test_reading(benchmark, maps):
    benchmark.group = "fuse"
    benchmark(lambda: maps.max())


@pytest.mark.parametrize("spec", SPECS)
def test_fuse(benchmark, spec, maps, truth):
    benchmark.group = "fuse"
    fusion = fitted(spec, maps[:, :4], truth[:4])
    with one_blas_thread():
        benchmark(fusion, maps)


@pytest.mark.parametrize("spec", ["per_class_vote", "stacking", "weighted_mean"])
def test_fit(benchmark, spec, maps, truth):
    benchmark.group = "fit"
    benchmark.pedantic(fitted, (spec, maps, truth), rounds=2)
