"""Images per second of each augmentation, on one thread.

    pytest benchmarks/test_bench_augmentations.py --benchmark-only

A round is a batch of 16 grey images of 64 x 128, with probability 1; `no_op` is the cost of calling
the library without a change.
"""

import albumentations
import cv2
import numpy as np
import pytest
import torch

from members.augmentations import AUGMENTATIONS
from members.augmentations.augment import Augment
from members.augmentations.geometric import per_image

IMAGES, ROWS, COLS = 16, 64, 128
PLAIN = ("flips", "rand_augment")
SPECS = [
    *PLAIN,
    *(
        f"{name}(probability=1)"
        for name in sorted(AUGMENTATIONS)
        if name not in (*PLAIN, "generated", "offline")
    ),
]


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    before = torch.get_num_threads(), cv2.getNumThreads()
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    yield
    torch.set_num_threads(before[0])
    cv2.setNumThreads(before[1])


@pytest.fixture(scope="module")
def batch():
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (IMAGES, 1, ROWS, COLS), dtype=np.uint8)
    masks = rng.integers(0, 5, (IMAGES, ROWS, COLS), dtype=np.uint8)
    return torch.from_numpy(images), torch.from_numpy(masks)


def measure(benchmark, augmentation, batch):
    rng = np.random.default_rng(0)
    benchmark(lambda: augmentation(*batch, rng))
    benchmark.extra_info["images_per_second"] = round(IMAGES / benchmark.stats["min"])


@pytest.mark.parametrize("spec", SPECS)
def test_augmentation(benchmark, spec, batch):
    measure(benchmark, Augment([spec]), batch)


def test_no_op(benchmark, batch):
    measure(benchmark, per_image(albumentations.NoOp(p=1)), batch)
