"""Measured time of a training step, a prediction, a chain and a store, for the plan of a run."""

import math
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from evaluation.core.arrays import argmax
from evaluation.core.ragged import Extent, block_images
from evaluation.core.types import Array, Map
from members.batches import class_shares
from members.codecs import StoreDtype
from members.crops import padded
from members.data.dataset import DataSet
from members.devices import Precision
from members.losses import build_loss
from members.maps import ArrayMaps
from members.network import NormalisedNetwork, as_tensor
from members.predict import predict
from members.recipe import Member
from members.resizing import resized_set
from members.store import ProbabilityStore
from members.trainers import TRAINERS
from members.trainers.epoch_metrics import EpochMetrics
from members.trainers.loop import TrainingTask, finish
from postproc.chain import Chain
from postproc.fit_chain import fit_chain

TRIED_IMAGES = 4
MAX_SECONDS = 1.0
"""A step at the recipe's own batch size is measured if it should take less."""

STATE_COPIES = 5
"""Weights, their gradients, two moments of the optimiser, and the best weights so far."""


@dataclass(frozen=True)
class NetworkTiming:
    """The cost of one network on one device.

    Args:
        train_step_seconds: per image or crop, forwards and backwards and its share of the step.
        predict_seconds: per pixel.
        weights_bytes: on disk.
        image_bytes: of activations, per image of the batch.
        state_bytes: of weights, gradients and optimiser.
    """

    train_step_seconds: float
    predict_seconds: float
    weights_bytes: int
    image_bytes: int
    state_bytes: int


def measure_network(member: Member, data: DataSet, device: str) -> NetworkTiming:
    """Train a member's network on a few images for two steps, and time the second.

    Trainer, loss and optimiser are the recipe's own; augmentation is left out. On the CPU one
    thread is used, as in training jobs, and its processor time counts, so training takes longer on
    a machine with other work.
    """
    threads = torch.get_num_threads()
    if device == "cpu":
        torch.set_num_threads(1)
    try:
        with torch.random.fork_rng(devices=[device] if device != "cpu" else []):
            return _measure(member, data, device)
    finally:
        torch.set_num_threads(threads)


def chain_seconds(chain: Chain, data: DataSet, floor: float) -> float:
    """Return the seconds per pixel of a chain on random maps; `floor` as it was parsed with."""
    images = _first_images(data, min(TRIED_IMAGES, _block_images(data)))
    maps = _random_maps(len(images), data)
    if chain.learns:
        chain = fit_chain(chain, ArrayMaps("drawn", maps), argmax(maps), images)
    maps += np.float32(floor)
    return timed(lambda: chain(maps, images)) / _pixels(images)


def disk_seconds(data: DataSet, dtype: StoreDtype) -> tuple[float, float]:
    """Return the seconds per pixel to read, and to write, the maps of a member."""
    maps = _random_maps(_block_images(data), data)
    with tempfile.TemporaryDirectory() as folder:
        store = ProbabilityStore.create(
            Path(folder) / "trial" / "maps",
            ids=data.ids[: len(maps)],
            classes=data.classes,
            extent=Extent.uniform(len(maps), data.extent.runs[0][1]),
            seen=None,
            dtype=dtype,
        )
        block = slice(0, len(maps))
        write = timed(lambda: store.write(block, maps))
        read = timed(lambda: store.read(block))
    return read / _pixels(maps), write / _pixels(maps)


def timed(work: Callable[[], object], clock: Callable[[], float] = time.perf_counter) -> float:
    """Return the seconds that some work takes the second time."""
    work()
    start = clock()
    work()
    return clock() - start


def _measure(member: Member, data: DataSet, device: str) -> NetworkTiming:
    network = NormalisedNetwork(
        member.recipe.architecture, channels=data.channels, classes=_num_classes(member, data)
    )
    network = network.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    few = min(member.recipe.batch, TRIED_IMAGES, len(data))
    training, size = data, member.recipe.size
    if size is not None:
        first = np.arange(min(member.recipe.batch, len(data)))
        training = resized_set(data.take(first), size, member.recipe.fit)
    saved: dict[int, int] = {}

    def save(tensor: Tensor) -> Tensor:
        saved[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    # The first step includes what is done once. It shows what is kept for the backward pass.
    with torch.autograd.graph.saved_tensors_hooks(save, lambda tensor: tensor):
        _train_step_seconds(network, member, training, few, device)
    for parameter in network.parameters():
        saved.pop(parameter.untyped_storage().data_ptr(), None)
    image_bytes = sum(saved.values()) // few
    seconds = _train_step_seconds(network, member, training, few, device)
    # An image costs less in a batch of the recipe's own size.
    batch = min(member.recipe.batch, len(data))
    if few < batch and seconds * batch / few < MAX_SECONDS:
        _train_step_seconds(network, member, training, batch, device)  # warms up the new shape
        seconds, few = _train_step_seconds(network, member, training, batch, device), batch
    network.eval()
    images = _first_images(data, min(few, _block_images(data)))
    prediction = timed(lambda: predict(network, images, device, member), _clock(device))
    weights = sum(t.numel() * t.element_size() for t in network.state_dict().values())
    return NetworkTiming(
        seconds / few, prediction / _pixels(images), weights, image_bytes, STATE_COPIES * weights
    )


def _train_step_seconds(
    network: NormalisedNetwork, member: Member, data: DataSet, batch: int, device: str
) -> float:
    classes = _num_classes(member, data)
    ignore = None if member.label is not None else data.classes.ignore
    size = member.recipe.crop or data.extent.smallest
    labels = np.random.default_rng(0).integers(0, classes, (batch, *size)).astype(np.uint8)
    target = torch.from_numpy(labels).to(device)
    image = _first_images(data, 1)[0]
    cropped, _ = padded(image, np.zeros(image.shape[1:], np.uint8), size)
    crop = as_tensor(cropped[:, : size[0], : size[1]])
    images = crop.expand(batch, -1, -1, -1).contiguous().to(device)
    shares = class_shares(labels, classes)
    task = TrainingTask(
        network=network,
        loss=build_loss(member.recipe.loss, frequencies=shares, ignore=ignore).to(device),
        batches=lambda _: iter([(images, target)]),
        steps=1,
        validate=lambda _: EpochMetrics(0.0, 0.0, 0.0),
        recipe=member.recipe.model_copy(update={"epochs": 1}),
        precision=Precision(device, member.recipe.precision),
        classes=classes,
        ignore=ignore,
    )
    train = TRAINERS.build(member.recipe.trainer)
    clock = _clock(device)
    start = clock()
    epochs = len(finish(train(task)))
    return (clock() - start) / epochs


def _num_classes(member: Member, data: DataSet) -> int:
    """Return the classes of a member's network; a specialist's are two."""
    return 2 if member.label is not None else len(data.classes)


def _clock(device: str) -> Callable[[], float]:
    """Return processor time for the CPU, so that other work does not count, else wall time."""
    return time.process_time if device == "cpu" else time.perf_counter


def _block_images(data: DataSet) -> int:
    """Return the images in the first block of a store."""
    images, size = data.extent.runs[0]
    return min(images, block_images(size))


def _pixels(images: Array) -> int:
    return math.prod((len(images), *images.shape[-2:]))


def _first_images(data: DataSet, count: int) -> Array:
    """Return images of the first one's size, as many as are asked for."""
    of_first_size = np.arange(count) % data.extent.runs[0][0]
    return np.array(data.images[of_first_size])


def _random_maps(count: int, data: DataSet) -> Map:
    rng = np.random.default_rng(0)
    maps = rng.random((count, len(data.classes), *data.extent.runs[0][1]), dtype=np.float32)
    return np.asarray(maps / maps.sum(axis=1, keepdims=True))
