"""Images per second of the training pipeline, compared with a bare loop over tensors in memory.

    .venv/bin/python benchmarks/training.py

Both train `unet(width=16)` in batches of 16 in the same precision on one thread; the pipeline
shuffles and flips, the bare loop does neither. They take turns, so that load affects both alike.
"""

import statistics
import time
from collections.abc import Iterable

import numpy as np
import torch

from evaluation.core.classes import MARS
from members.augmentations.augment import Augment
from members.batches import BatchLoader, class_shares, read_from
from members.devices import autocast
from members.losses import build_loss
from members.network import NormalisedNetwork
from members.optimizers import OPTIMIZERS

BATCH, STEPS, ROUNDS = 16, 12, 7


def main() -> None:
    """Print the two medians and their ratio."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (BATCH * STEPS, 1, 64, 128), dtype=np.uint8)
    target = rng.integers(0, len(MARS), (BATCH * STEPS, 64, 128), dtype=np.uint8)
    loader = BatchLoader(
        read_from(torch.from_numpy(images), torch.from_numpy(target)),
        np.arange(len(images)),
        batch=BATCH,
        augment=Augment(("flips",)),
        seed=0,
        device="cpu",
    )
    batches = [
        (torch.from_numpy(p), torch.from_numpy(t))
        for p, t in zip(np.split(images, STEPS), np.split(target, STEPS), strict=True)
    ]
    network = NormalisedNetwork("unet(width=16)", channels=1, classes=len(MARS))
    network = network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    loss = build_loss("cross_entropy", frequencies=class_shares(target, 5), ignore=0)
    optimizer = OPTIMIZERS.build("adamw", parameters=network.parameters())
    precision = autocast("cpu", "auto")

    def train(source: Iterable[tuple[torch.Tensor, torch.Tensor]]) -> float:
        started = time.perf_counter()
        for batch, labels in source:
            with precision():
                logits = network(batch)
            value = loss(logits.float(), labels)
            optimizer.zero_grad(set_to_none=True)
            value.backward()
            optimizer.step()
        return BATCH * STEPS / (time.perf_counter() - started)

    train(batches)
    rates = [(train(loader.epoch(number)), train(batches)) for number in range(ROUNDS)]
    ours, bare = (statistics.median(column) for column in zip(*rates, strict=True))
    ratio = statistics.median(a / b for a, b in rates)
    print(f"pipeline {ours:.0f} images/s, bare loop {bare:.0f} images/s, ratio {ratio:.2f}")


if __name__ == "__main__":
    main()
