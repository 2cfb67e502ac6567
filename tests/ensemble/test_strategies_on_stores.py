"""Strategies on probability stores: block by block they give what they give in memory."""

import numpy as np
import pytest

from ensemble.block_fusion import TrainingBlocks, fuse, read_members
from ensemble.calibration import CALIBRATORS
from ensemble.fusion import LearnedFusion, TrainingBlock
from ensemble.strategies import STRATEGIES
from ensemble.strategy import build_strategy
from evaluation.core.blocks import blocks
from evaluation.core.classes import numbered
from evaluation.core.ragged import Extent
from members.store import ProbabilityStore

IMAGES, SHAPE = 70, (4, 4)  # one whole chunk and a part
CLASSES = {"uint8": 5, "float16": 5, "compact": 5, "topk(k=4)": 16}
MEMBERS = 3
CALIBRATED = [f"mean(calibrate={name})" for name in sorted(CALIBRATORS)]


def written(folder, seed, target, dtype):
    rng = np.random.default_rng(seed)
    classes = CLASSES[dtype]
    right = target[:, None] == np.arange(classes)[:, None, None]
    scores = rng.normal(size=(IMAGES, classes, *SHAPE)) + (2.0 if classes == 5 else 3.0) * right
    maps = np.exp(3 * scores)  # sure enough that uint8 rounds most of it to 0
    ids = [f"p{k:03}" for k in range(IMAGES)]
    store = ProbabilityStore.create(
        folder,
        ids=ids,
        classes=numbered(classes, ignore=0),
        extent=Extent.uniform(len(ids), SHAPE),
        seen=None,
        dtype=dtype,
    )
    for block in blocks(IMAGES):
        part = maps[block] / maps[block].sum(axis=1, keepdims=True)
        store.write(block, part.astype(np.float32))
    return ProbabilityStore(folder)


@pytest.fixture(scope="module", params=list(CLASSES))
def dtype(request):
    return request.param


@pytest.fixture(scope="module")
def target(dtype):
    return np.random.default_rng(0).integers(0, CLASSES[dtype], (IMAGES, *SHAPE))


@pytest.fixture(scope="module")
def stores(dtype, target, tmp_path_factory):
    folder = tmp_path_factory.mktemp("stores")
    return [written(folder / str(m), m + 1, target, dtype) for m in range(MEMBERS)]


@pytest.mark.parametrize("name", [*sorted(STRATEGIES), *CALIBRATED])
def test_streaming_from_stores_gives_what_memory_gives(name, stores, target):
    context = {
        "classes": stores[0].num_classes,
        "ignore": 0,
        "kinds": ("probabilities",) * MEMBERS,
        "floor": max(store.floor for store in stores),
        "seed": 0,
    }
    strategy = build_strategy(name, **context)
    maps = read_members(stores, slice(0, IMAGES))
    assert (maps == 0).any()
    streamed, whole = (
        strategy.fit(source) if isinstance(strategy, LearnedFusion) else strategy
        for source in (TrainingBlocks(stores, target, size=16), [TrainingBlock(maps, target)])
    )
    out = np.full(maps.shape[1:], np.nan, np.float32)
    fuse(stores, streamed, out.__setitem__, size=16)
    np.testing.assert_allclose(out, whole(maps), rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(out.sum(axis=1), 1, atol=1e-5)
    pred, scored = out.argmax(axis=1), target != 0
    # Nothing breaks down on zeros: members alone have .72.
    assert (pred == target)[scored].mean() > 0.72
