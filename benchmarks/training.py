"""Images per second of the training pipeline against a bare loop, and memory by number of images.

    .venv/bin/python -m benchmarks.training
    .venv/bin/python -m benchmarks.training --part memory

Speed: both train `unet(width=16)` in batches of 16 in the same precision on one thread. The
pipeline reads a mapped file, shuffles, flips, clips gradients and counts the confusion; the bare
loop over tensors in memory does none of it. They take turns step by step, by processor time,
so that load affects both alike.

Memory: the peak of one epoch of training on mapped files of few and of many images.
"""

import json
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import click
import numpy as np
import torch
from torch import Tensor

from benchmarks.memory import FACTOR, peak_mb
from evaluation.core.classes import MARS
from evaluation.core.files import create_stack
from evaluation.core.ragged import Extent
from members.augmentations.augment import Augment
from members.batches import BatchLoader, ChosenImages, read_from
from members.data.dataset import DataSet, write_classes
from members.devices import Precision
from members.losses import build_loss
from members.network import NormalisedNetwork
from members.optimizers import OPTIMIZERS
from members.recipe import Member, Recipe
from members.train import Fold, train_fold
from members.trainers.epoch_metrics import EpochMetrics
from members.trainers.loop import TrainingTask, TrainStep

BATCH, STEPS = 16, 12
SIZE = (64, 128)
RECIPE = Recipe(architecture="unet(width=16)", batch=BATCH)
SMALL = Recipe(architecture="unet(width=2, depth=1)", batch=BATCH, epochs=1)
PRECISION = Precision("cpu")

Step = Callable[[Tensor, Tensor], None]


@click.command()
@click.option("--part", type=click.Choice(["speed", "memory"]), default="speed")
@click.option("--rounds", default=7, help="epochs of 12 steps")
@click.option("--images", default=1000, help="the smaller number, for --part memory")
@click.option("--json", "as_json", is_flag=True, help="print a JSON document")
@click.option(
    "--train", type=Path, hidden=True, help="train on this folder; measured by its caller"
)
def main(part: str, rounds: int, images: int, as_json: bool, train: Path | None) -> None:
    """Print the figures."""
    if train is not None:
        _train_on(train)
        return
    result = _speed(rounds) if part == "speed" else _memory(images)
    print(json.dumps(result) if as_json else "  ".join(f"{k} {v:.4g}" for k, v in result.items()))


def _speed(rounds: int) -> dict[str, float]:
    torch.set_num_threads(1)
    with TemporaryDirectory() as folder:
        data = _drawn(Path(folder) / "split", BATCH * STEPS)
    everything = np.arange(len(data))
    loader = BatchLoader(
        read_from(ChosenImages(data.images, everything), ChosenImages(data.target(), everything)),
        everything,
        batch=BATCH,
        augment=Augment(RECIPE.augment),
        seed=0,
        device="cpu",
    )
    pair = [torch.from_numpy(np.array(part)) for part in (data.images, data.target())]
    batches = list(zip(*(part.split(BATCH) for part in pair), strict=True))
    steps = {"ours": _our_step(), "bare": _bare_step()}
    seconds: dict[str, list[float]] = {"ours": [], "bare": []}
    for number in range(rounds + 1):
        sources = {"ours": loader.epoch(number), "bare": iter(batches)}
        for index in range(STEPS):
            for name in sorted(sources, reverse=bool(index % 2)):
                seconds[name].append(_timed_step(sources[name], steps[name]))
    pairs = np.array(list(zip(*seconds.values(), strict=True)))[STEPS:]  # the first round warms up
    ours, bare = BATCH / np.median(pairs, axis=0)
    ratio = float(np.median(pairs[:, 1] / pairs[:, 0]))
    return {"images/s": float(ours), "bare images/s": float(bare), "ratio": ratio}


def _timed_step(source: Iterator[tuple[Tensor, Tensor]], step: Step) -> float:
    started = time.process_time()
    step(*next(source))
    return time.process_time() - started


def _network() -> NormalisedNetwork:
    torch.manual_seed(0)
    network = NormalisedNetwork(RECIPE.architecture, channels=1, classes=len(MARS))
    return network.to(memory_format=torch.channels_last).train()  # type: ignore[call-overload,no-any-return]


def _loss() -> torch.nn.Module:
    shares = np.full(len(MARS), 1 / len(MARS))
    loss: torch.nn.Module = build_loss(RECIPE.loss, frequencies=shares, ignore=MARS.ignore)
    return loss


def _our_step() -> Step:
    network = _network()
    task = TrainingTask(
        network=network,
        loss=_loss(),
        batches=lambda _: iter(()),
        steps=STEPS,
        validate=lambda _: EpochMetrics(0.0, 0.0, 0.0),
        recipe=RECIPE,
        precision=PRECISION,
        classes=len(MARS),
        ignore=MARS.ignore,
    )
    step = TrainStep(task, list(network.parameters()))
    return lambda images, target: step(images, target, rate=1.0)


def _bare_step() -> Step:
    network, loss = _network(), _loss()
    optimizer = OPTIMIZERS.build(RECIPE.optimizer, parameters=network.parameters())

    def step(images: Tensor, target: Tensor) -> None:
        with PRECISION.autocast():
            logits = network(images)
        value = loss(logits.float(), target)
        optimizer.zero_grad(set_to_none=True)
        value.backward()
        optimizer.step()

    return step


def _memory(images: int) -> dict[str, float]:
    """Return the peaks, in MB, of training on few and on many images."""
    peaks = []
    for count in (images, FACTOR * images):
        with TemporaryDirectory() as name:
            _drawn(Path(name) / "split", count)
            command = [sys.executable, "-m", "benchmarks.training", "--train", f"{name}/split"]
            peaks.append(peak_mb(command, Path.cwd()))
    few, many = peaks
    return {f"MB of {images}": few, f"MB of {FACTOR * images}": many, "ratio": many / few}


def _train_on(folder: Path) -> None:
    torch.set_num_threads(1)
    data = DataSet.load(folder)
    fold = Fold(0, np.arange(len(data)))
    train_fold(Member("m", SMALL), data, fold, seed=0, device="cpu", folder=folder.parent / "out")


def _drawn(folder: Path, images: int) -> DataSet:
    """Write a split of random images and masks to a folder, and open it as memory maps."""
    rng, extent = np.random.default_rng(0), Extent.uniform(images, SIZE)
    folder.mkdir(parents=True)
    stacks = [
        create_stack(folder / "images.npy", dtype=np.uint8, extent=extent, channels=(1,)),
        create_stack(folder / "target.npy", dtype=np.uint8, extent=extent),
    ]
    for block in extent.blocks():
        for stack, top in zip(stacks, (256, len(MARS)), strict=True):
            stack[block] = rng.integers(0, top, stack[block].shape, dtype=np.uint8)
    for stack in stacks:
        stack.flush()
    ids = "\n".join(["id", *(f"p{number}" for number in range(images))])
    (folder / "index.csv").write_text(f"{ids}\n", encoding="utf-8")
    write_classes(folder.parent / "classes.json", MARS)
    return DataSet.load(folder)


if __name__ == "__main__":
    main()
