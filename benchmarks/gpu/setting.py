"""What all parts of `benchmarks.gpu` share: device, sizes, tiles, and a network to train."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from evaluation.core.classes import MARS
from evaluation.core.types import Array
from members.data.dataset import DataSet
from members.devices import Precision
from members.losses import build_loss
from members.network import NormalisedNetwork
from members.recipe import Recipe
from members.trainers.epoch_metrics import EpochMetrics
from members.trainers.loop import TrainingTask, TrainStep

Row = dict[str, Any]
Part = Callable[["Setting"], Iterator[Row]]
"""A measurement; yields each row when it is known."""

COARSE_PX = 8


@dataclass(frozen=True)
class Setting:
    """Where and how much to measure.

    Args:
        device: `cpu` or `cuda:K`.
        is_tiny: sizes of a rehearsal, in seconds on a CPU.
        tiles: a file that `--prepare` wrote; None for drawn tiles.
    """

    device: str
    is_tiny: bool
    tiles: Path | None = None

    def pick(self, tiny: Any, full: Any) -> Any:
        """Return the value for a rehearsal, or for a measurement."""
        return tiny if self.is_tiny else full

    @property
    def has_gpu(self) -> bool:
        """Whether the device is a GPU."""
        return self.device != "cpu"

    def data(self) -> DataSet:
        """Return the tiles with their masks."""
        if self.tiles is None:
            images, masks = drawn(self.pick(24, 1000), self.pick((16, 24), (64, 128)))
            return _data_set(images, masks, None)
        with np.load(self.tiles, allow_pickle=False) as file:
            return _data_set(file["images"], file["masks"], file["groups"])

    def batch(self, images: int) -> tuple[Tensor, Tensor]:
        """Return images and target of a batch, on the device."""
        pair = drawn(images, self.pick((16, 24), (64, 128)))
        on_device = [torch.from_numpy(part).to(self.device) for part in pair]
        return on_device[0], on_device[1]

    def wait(self) -> None:
        """Wait until the device has done all it was given."""
        if self.has_gpu:
            torch.cuda.synchronize(self.device)


def drawn(images: int, size: tuple[int, int]) -> tuple[Array, Array]:
    """Draw coarse masks, and images whose grey values tell the classes, with noise."""
    rng = np.random.default_rng(0)
    coarse = rng.integers(0, len(MARS), (images, *(side // COARSE_PX for side in size)))
    masks = coarse.repeat(COARSE_PX, axis=1).repeat(COARSE_PX, axis=2).astype(np.uint8)
    grey = np.clip(40 * masks + rng.normal(40, 20, masks.shape), 0, 255)
    return grey.astype(np.uint8)[:, None], masks


def _data_set(images: Array, masks: Array, groups: Array | None) -> DataSet:
    ids = tuple(f"tile-{number:05}" for number in range(len(images)))
    return DataSet(images, masks, ids, groups, MARS)


def task_of(setting: Setting, recipe: Recipe, device: str | None = None) -> TrainingTask:
    """Return a task with a network of its own, of the same weights on every device."""
    device = device or setting.device
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = NormalisedNetwork(recipe.architecture, channels=1, classes=len(MARS))
    network = network.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    shares = np.full(len(MARS), 1 / len(MARS))
    batch = setting.batch(recipe.batch)
    return TrainingTask(
        network=network.train(),
        loss=build_loss(recipe.loss, frequencies=shares, ignore=MARS.ignore).to(device),
        batches=lambda _: iter([batch] * STEPS),
        steps=STEPS,
        validate=lambda _: EpochMetrics(0.0, 0.0, 0.0),
        recipe=recipe,
        precision=Precision(device, recipe.precision),
        classes=len(MARS),
        ignore=MARS.ignore,
    )


STEPS = 5
"""Per epoch: a few plain ones, then recorded ones."""


def step_of(setting: Setting, recipe: Recipe) -> TrainStep:
    """Return the training step of a network of its own."""
    task = task_of(setting, recipe)
    return TrainStep(task, [*task.network.parameters(), *task.loss.parameters()])
