"""Stacking on 4 million pixels of 50 features against scikit-learn's logistic regression.

    .venv/bin/python benchmarks/stacking.py [PIXELS OF THE SAMPLE]

Ours goes through all pixels and fits on the sample it draws; scikit-learn (lbfgs) is fitted on
500,000 of them, and its time on all is extrapolated from that in proportion to the pixels. Both
are examined on the same other pixels. The members make one another's mistakes in part, and classes
are as rare as on Mars.
"""

import sys
import time
from collections.abc import Iterator

import numpy as np
from scipy.special import softmax
from sklearn.linear_model import LogisticRegression
from threadpoolctl import threadpool_limits

from ensemble.fusion import Block, Learned
from ensemble.strategies import STRATEGIES
from evaluation.ground.arrays import Array, Labels, Map, Maps

MEMBERS, CLASSES, SIDE = 10, 5, 128
SHARES = (0.0, 0.5, 0.2, 0.27, 0.03)
PICTURES, THEIRS, HELD_OUT, BLOCK = 4_000_000 // SIDE**2, 500_000, 30, 32
FLOOR = 2.0**-25
CONTEXT = {
    "classes": CLASSES,
    "ignore": 0,
    "floor": FLOOR,
    "kinds": ("probabilities",) * MEMBERS,
    "seed": 0,
}


def drawn(seed: int, pictures: int) -> Block:
    """Draw truth and maps; members differ in skill, and each takes some classes for others."""
    rng, fixed = np.random.default_rng(seed), np.random.default_rng(0)
    habits = fixed.normal(scale=0.5, size=(MEMBERS, CLASSES, CLASSES)) + 2 * np.eye(CLASSES)
    truth = rng.choice(CLASSES, p=SHARES, size=(pictures, SIDE, SIDE)).astype(np.uint8)
    shared = rng.normal(size=(*truth.shape, CLASSES)).astype(np.float32)
    maps: Maps = np.empty((MEMBERS, pictures, CLASSES, SIDE, SIDE), np.float32)
    for one, habit in zip(maps, habits.astype(np.float32), strict=True):
        own = rng.standard_normal(shared.shape, dtype=np.float32)
        said: Map = softmax(habit[truth] + shared + 1.5 * own, axis=-1)
        one[...] = np.moveaxis(said, -1, 1)
    return Block(maps, truth)


def features(block: Block) -> tuple[Array, Labels]:
    """Return log-probabilities, a row a pixel, and the truth."""
    rows = np.moveaxis(block.maps, (0, 2), (-2, -1)).reshape(-1, MEMBERS * CLASSES)
    return np.log(np.maximum(rows, FLOOR)), block.truth.ravel()


class Stream:
    """All pictures in blocks, drawn beforehand."""

    def __init__(self, blocks: list[Block]) -> None:
        self.blocks = blocks

    def __iter__(self) -> Iterator[Block]:
        """Go through them."""
        return iter(self.blocks)


def main() -> None:
    """Print both log-losses and times."""
    starts = range(0, PICTURES, BLOCK)
    blocks = [drawn(1 + s, min(BLOCK, PICTURES - s)) for s in starts]
    examined = drawn(10**6, HELD_OUT)
    rows, truth = features(examined)
    spec = f"stacking(sample_pixels={sys.argv[1]})" if len(sys.argv) > 1 else "stacking"
    strategy = STRATEGIES.build(spec, **CONTEXT)
    assert isinstance(strategy, Learned)
    with threadpool_limits(1):
        started = time.perf_counter()
        fusion = strategy.fit(Stream(blocks))
        ours_s = time.perf_counter() - started
        told = np.moveaxis(fusion(examined.maps), 1, -1).reshape(-1, CLASSES)
        ours = -np.log(told[np.arange(len(truth)), truth]).mean()
        learnt, labels = (np.concatenate(part) for part in zip(*map(features, blocks), strict=True))
        chosen = np.random.default_rng(0).choice(len(labels), THEIRS, replace=False)
        started = time.perf_counter()
        model = LogisticRegression(max_iter=1000).fit(learnt[chosen], labels[chosen])
        theirs_s = time.perf_counter() - started
    theirs = -np.log(model.predict_proba(rows)[np.arange(len(truth)), truth - 1]).mean()
    everything = theirs_s * len(labels) / THEIRS
    print(f"{len(labels)} pixels, {MEMBERS * CLASSES} features, examined on {len(truth)} others")
    print(f"ours: {spec}, {ours_s:.1f} s, log-loss {ours:.5f}")
    print(
        f"scikit-learn: {THEIRS} pixels, {int(model.n_iter_[0])} steps, {theirs_s:.1f} s,"
        f" log-loss {theirs:.5f}"
    )
    print(f"scikit-learn on all, extrapolated: {everything:.0f} s, {everything / ours_s:.0f} times")
    print(f"log-loss of ours minus theirs: {ours - theirs:+.5f}")


if __name__ == "__main__":
    main()
