"""Time to fit each strategy that learns, on 64 images of 10 members.

pytest benchmarks/test_bench_fusion.py --benchmark-only
"""

import pytest

from benchmarks.synthetic import CLASSES, draw_members
from ensemble.fusion import LearnedFusion, TrainingBlock
from ensemble.strategies import STRATEGIES

MEMBERS, IMAGES = 10, 64
CONTEXT = {
    "classes": CLASSES,
    "ignore": 0,
    "floor": 2.0**-15,
    "kinds": ("probabilities",) * MEMBERS,
    "seed": 0,
}
LEARNED = [
    "evidence",
    "gate",
    "greedy",
    "per_class_vote",
    "simple",
    "stacking",
    "weighted_mean",
    "weighted_mean(per_class=True)",
]


@pytest.fixture(scope="module")
def block():
    maps = draw_members(MEMBERS, IMAGES)
    return TrainingBlock(maps, maps[0].argmax(axis=1))


def fit(spec, block):
    strategy = STRATEGIES.build(spec, **CONTEXT)
    assert isinstance(strategy, LearnedFusion)
    return strategy.fit([block])


@pytest.mark.parametrize("spec", LEARNED)
def test_fit(benchmark, spec, block):
    benchmark.group = "fit"
    benchmark.pedantic(fit, (spec, block), rounds=2)
