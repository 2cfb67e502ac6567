"""Time of confusion counts, compared with reading both arrays once and with scikit-learn.

    make bench BENCH=benchmarks/test_bench_scoring.py

The same 256 images of 64 x 128, 5 classes. Ours gives a table per image, as the bootstrap needs;
scikit-learn is timed for that, and for one table of all images, which is less work. Intervals are
timed to see that 10,000 resamples take seconds.
"""

import numpy as np
import pytest
from sklearn.metrics import confusion_matrix

from evaluation.confusion import confusion, parallel_confusion
from evaluation.intervals import group_sums, paired_interval, replicates
from evaluation.protocols import masked

IMAGES, ROWS, COLS, CLASSES = 256, 64, 128, 5


def noise(rng):
    return rng.integers(0, CLASSES, (IMAGES, ROWS, COLS), dtype=np.uint8)


def regions(rng):
    """Squares of one class each, as in real labels: a histogram is slow on runs of one number."""
    small = noise(rng)[:, ::16, ::16]
    return np.ascontiguousarray(small.repeat(16, axis=1).repeat(16, axis=2))


def reading(target, pred):
    """One pass over the two arrays, the least that any scorer must do.

    Their maxima, since NumPy's sum widens each byte to eight and takes twenty times as long.
    """
    return target.max(), pred.max()


def ours(target, pred):
    return confusion(target, pred, classes=CLASSES)


def ours_by_threads(target, pred):
    return parallel_confusion(target, pred, classes=CLASSES)


def scikit_learn(target, pred):
    return np.stack([scikit_learn_on_all(*pair) for pair in zip(target, pred, strict=True)])


def scikit_learn_on_all(target, pred):
    return confusion_matrix(target.ravel(), pred.ravel(), labels=np.arange(CLASSES))


CONTENDERS = [reading, ours, ours_by_threads, scikit_learn, scikit_learn_on_all]


@pytest.mark.parametrize("kind", [noise, regions], ids=lambda kind: kind.__name__)
@pytest.mark.parametrize("count", CONTENDERS, ids=lambda count: count.__name__)
def test_counting(benchmark, kind, count):
    target, pred = kind(np.random.default_rng(0)), kind(np.random.default_rng(1))
    benchmark.group = f"{IMAGES} images of {kind.__name__}"
    counts = benchmark(count, target, pred)
    if count is not reading:
        tables = np.reshape(counts, (-1, CLASSES, CLASSES))
        np.testing.assert_array_equal(tables.sum(axis=0), scikit_learn_on_all(target, pred))


@pytest.fixture(scope="module")
def counted():
    return np.random.default_rng(0).integers(0, 300, (2, 10_000, CLASSES, CLASSES))


@pytest.mark.parametrize("groups", [100, 1_000, 10_000])
def test_resampling(benchmark, counted, groups):
    benchmark.group = "10,000 resamples of 10,000 images"
    group = np.arange(10_000) % groups

    def resample():
        sums, rng = group_sums(counted, group), np.random.default_rng(0)
        return replicates(sums, masked(), 0, rng=rng, resamples=10_000)

    scores = benchmark.pedantic(resample, rounds=3, warmup_rounds=1)
    assert scores.shape == (2, 10_000)


@pytest.mark.parametrize("groups", [100, 1_000, 10_000])
def test_paired_interval(benchmark, counted, groups):
    benchmark.group = "paired interval over 10,000 images"
    (a, b), group = counted, np.arange(10_000) % groups

    def interval():
        return paired_interval(a, b, group, masked(), 0, rng=np.random.default_rng(0))

    benchmark.pedantic(interval, rounds=3, warmup_rounds=1)
