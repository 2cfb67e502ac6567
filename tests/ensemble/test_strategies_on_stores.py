"""Strategies on probability stores: block by block they give what they give in memory."""

import numpy as np
import pytest

from ensemble.block_fusion import TrainingBlocks, fuse, read_members
from ensemble.fusion import LearnedFusion, TrainingBlock
from ensemble.strategies import STRATEGIES
from evaluation.core.blocks import blocks
from evaluation.core.classes import MARS
from evaluation.core.ragged import Extent
from members.store import ProbabilityStore

IMAGES, CLASSES, SHAPE = 70, 5, (4, 4)  # one whole chunk and a part
MEMBERS = 3


def written(folder, seed, target, dtype):
    rng = np.random.default_rng(seed)
    scores = rng.normal(size=(IMAGES, CLASSES, *SHAPE)) + 2.0 * (
        target[:, None] == np.arange(CLASSES)[:, None, None]
    )
    maps = np.exp(3 * scores)  # sure enough that uint8 rounds most of it to 0
    ids = [f"p{k:03}" for k in range(IMAGES)]
    store = ProbabilityStore.create(
        folder,
        ids=ids,
        classes=MARS,
        extent=Extent.uniform(len(ids), SHAPE),
        seen=None,
        dtype=dtype,
    )
    for block in blocks(IMAGES):
        part = maps[block] / maps[block].sum(axis=1, keepdims=True)
        store.write(block, part.astype(np.float32))
    return ProbabilityStore(folder)


@pytest.fixture(scope="module")
def target():
    return np.random.default_rng(0).integers(0, CLASSES, (IMAGES, *SHAPE))


@pytest.fixture(scope="module", params=["uint8", "float16", "compact"])
def stores(request, target, tmp_path_factory):
    folder = tmp_path_factory.mktemp(request.param)
    return [written(folder / str(m), m + 1, target, request.param) for m in range(MEMBERS)]


@pytest.mark.parametrize("name", sorted(STRATEGIES))
def test_streaming_from_stores_gives_what_memory_gives(name, stores, target):
    context = {
        "classes": CLASSES,
        "ignore": 0,
        "kinds": ("probabilities",) * MEMBERS,
        "floor": max(store.floor for store in stores),
        "seed": 0,
    }
    strategy = STRATEGIES.build(name, **context)
    maps = read_members(stores, slice(0, IMAGES))
    assert (maps == 0).any()
    streamed, whole = (
        strategy.fit(source) if isinstance(strategy, LearnedFusion) else strategy
        for source in (TrainingBlocks(stores, target, size=16), [TrainingBlock(maps, target)])
    )
    out = np.full((IMAGES, CLASSES, *SHAPE), np.nan, np.float32)
    fuse(stores, streamed, out.__setitem__, size=16)
    np.testing.assert_allclose(out, whole(maps), rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(out.sum(axis=1), 1, atol=1e-5)
    pred, scored = out.argmax(axis=1), target != 0
    # Nothing breaks down on zeros: members alone have .72.
    assert (pred == target)[scored].mean() > 0.72
