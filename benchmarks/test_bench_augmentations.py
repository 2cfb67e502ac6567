"""How many images a second does each augmentation change, on one thread?

pytest benchmarks/test_bench_augmentations.py --benchmark-only

A round is a batch of 16 grey images of 64 x 128, all of them changed where there is a
probability; `no_op` is what the bridge to the library costs by itself.
"""

import albumentations
import cv2
import numpy as np
import pytest
import torch

from members.augmentations import AUGMENTATIONS, Augment
from members.augmentations.geometric import each_image

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


def measured(benchmark, augmentation, batch):
    rng = np.random.default_rng(0)
    benchmark(lambda: augmentation(*batch, rng))
    benchmark.extra_info["images_per_second"] = round(IMAGES / benchmark.stats["min"])


@pytest.mark.parametrize("spec", SPECS)
def test_augmentation(benchmark, spec, batch):
    measured(benchmark, Augment([spec]), batch)


def test_no_op(benchmark, batch):
    measured(benchmark, each_image(albumentations.NoOp(p=1)), batch)
