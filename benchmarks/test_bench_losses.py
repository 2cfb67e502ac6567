"""Time of each loss, forward and backward, on a batch of 16 x 5 x 64 x 128, on one thread.

pytest benchmarks/test_bench_losses.py --benchmark-only
"""

import numpy as np
import pytest
import torch
from scipy import ndimage

from members.losses import LOSSES, build_loss

IMAGES, CLASSES, ROWS, COLS = 16, 5, 64, 128
SPECS = [*sorted(LOSSES), "dice(weights=generalised)", "learned_weights(cross_entropy, dice)"]


@pytest.fixture(scope="module")
def target():
    """Patches of some ten pixels, as in real labels; about a fifth is of the ignored class."""
    noise = np.random.default_rng(0).standard_normal((IMAGES, CLASSES, ROWS, COLS))
    patches = ndimage.gaussian_filter(noise, 5, axes=(2, 3)).argmax(axis=1)
    return torch.from_numpy(patches.astype(np.uint8))


@pytest.fixture(scope="module")
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.mark.usefixtures("one_thread")
@pytest.mark.parametrize("spec", SPECS)
def test_a_loss_on_a_batch(benchmark, spec, target):
    logits = torch.randn((IMAGES, CLASSES, ROWS, COLS), requires_grad=True)
    loss = build_loss(spec, frequencies=np.full(CLASSES, 1 / CLASSES), ignore=0)

    def forward_and_backward():
        loss(logits, target).backward()

    benchmark.pedantic(forward_and_backward, rounds=7, warmup_rounds=1)
    benchmark.extra_info["ms"] = 1e3 * benchmark.stats.stats.min
