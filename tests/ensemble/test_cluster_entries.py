"""Whatever stands in a table can be sent to a worker, and does there what it does here."""

import subprocess
import sys

import pytest

# In a process of its own: under pytest functions are wrapped by type checks, which no parcel takes.
SENT = """
import pickle

import numpy as np

from ensemble.fusion import Block, Learned, fuse_block
from ensemble.strategies import STRATEGIES
from evaluation.core.function_pickle import pack
from postproc.chain import parse_chain
from postproc.step import FitBlock, Learned as LearnedStep
from postproc.steps import STEPS

QUICK = {
    "stacking_boosted": "stacking_boosted(rounds=2)",
    "stacking_conv": "stacking_conv(width=4, steps=2)",
    "crf": "crf(iterations=1)",
}

rng = np.random.default_rng(0)
target = rng.integers(0, 3, (6, 8, 8), dtype=np.uint8)
maps = rng.dirichlet(np.ones(3), (2, 6, 8, 8)).transpose(0, 1, 4, 2, 3).astype(np.float32)
images = rng.integers(0, 256, (6, 1, 8, 8), dtype=np.uint8)


def same(name, function, *arguments):
    here = function(*arguments)
    there = pickle.loads(pickle.dumps(pack(function)))(*arguments)
    assert np.array_equal(here, there), name
    print(name)


for name in STRATEGIES:
    spec, kinds = QUICK.get(name, name), ("probabilities",) * 2
    fusion = STRATEGIES.build(spec, classes=3, ignore=0, floor=1e-3, seed=0, kinds=kinds)
    if isinstance(fusion, Learned):
        fusion = fusion.fit([Block(maps, target, images)])
    same(name, lambda maps, seen: fuse_block(fusion, maps, seen), maps, images)
for name in STEPS:
    chain = parse_chain(QUICK.get(name, name), classes=3, ignore=0)
    for place, step in enumerate(chain.steps):
        if isinstance(step, LearnedStep):
            chain = chain.put(place, step.fit([FitBlock(maps[0], target)]))
    same(name, lambda maps, seen: chain(maps, seen), maps[0], images)
"""


@pytest.mark.slow
def test_every_strategy_and_step():
    from ensemble.strategies import STRATEGIES
    from postproc.steps import STEPS

    said = subprocess.run([sys.executable, "-c", SENT], capture_output=True, text=True, check=False)
    assert said.returncode == 0, said.stderr
    assert said.stdout.split() == [*STRATEGIES, *STEPS]
