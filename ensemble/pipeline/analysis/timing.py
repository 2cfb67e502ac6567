"""How long a training step, a prediction, a chain and a block on disk take here, by trying."""

import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from evaluation.core.arrays import argmax
from evaluation.core.types import Map
from members.batches import class_shares
from members.data.dataset import DataSet
from members.devices import autocast
from members.losses import build_loss
from members.maps import ArrayMaps
from members.network import NormalisedNetwork
from members.predict import predict
from members.recipe import Member
from members.store import ProbabilityStore
from members.store_metadata import StoreDtype
from members.trainers import TRAINERS
from members.trainers.epoch_metrics import EpochMetrics
from members.trainers.loop import TrainingTask
from postproc.chain import Chain
from postproc.fit_chain import fit_chain

TRIED_IMAGES = 4
BINARY = 2
AFFORDED_SECONDS = 1.0
STATE_COPIES = 5
"""Weights, their gradients, two moments of the optimiser, and the best weights so far."""


@dataclass(frozen=True)
class Pace:
    """What one network costs on one device.

    Args:
        learn_seconds: of an image, forwards and backwards and its share of the step.
        predict_seconds: of an image.
        weights_bytes: on disk.
        image_bytes: kept for the way back, an image of the batch.
        state_bytes: weights, gradients and the optimiser's.
    """

    learn_seconds: float
    predict_seconds: float
    weights_bytes: int
    image_bytes: int
    state_bytes: int


def network_pace(member: Member, data: DataSet, device: str) -> Pace:
    """Train a member's network on a few images for two steps, and time the second.

    The procedure, loss and optimiser are the recipe's own; augmentation is left out. On the CPU
    one thread is used, as jobs have, and its own time is taken: on a machine that others use as
    well, training takes longer.

    Args:
        member: whose network.
        data: images to try on.
        device: `cpu` or `cuda:K`.
    """
    threads = torch.get_num_threads()
    if device == "cpu":
        torch.set_num_threads(1)
    try:
        with torch.random.fork_rng(devices=[device] if device != "cpu" else []):
            return _tried(member, data, device)
    finally:
        torch.set_num_threads(threads)


def chain_seconds(chain: Chain, data: DataSet, floor: float) -> float:
    """Return how long a chain takes for an image, on drawn maps.

    Args:
        chain: what to do.
        data: images to try on.
        floor: as the chain was parsed with.
    """
    images = np.array(data.images[:TRIED_IMAGES])
    maps = _drawn(len(images), data)
    if chain.learns:
        chain = fit_chain(chain, ArrayMaps("drawn", maps), argmax(maps), images)
    maps += np.float32(floor)
    return timed(lambda: chain(maps, images)) / len(images)


def disk_seconds(data: DataSet, dtype: StoreDtype) -> tuple[float, float]:
    """Return how long it takes to read, and to write, the maps of an image."""
    maps = _drawn(min(len(data), 64), data)
    with tempfile.TemporaryDirectory() as folder:
        store = ProbabilityStore.create(
            Path(folder) / "trial" / "maps",
            ids=data.ids[: len(maps)],
            classes=data.classes,
            shape=data.shape,
            seen=None,
            dtype=dtype,
        )
        block = slice(0, len(maps))
        write = timed(lambda: store.write(block, maps))
        read = timed(lambda: store.read(block))
    return read / len(maps), write / len(maps)


def timed(work: Callable[[], object], clock: Callable[[], float] = time.perf_counter) -> float:
    """Return the seconds that some work takes the second time."""
    work()
    started = clock()
    work()
    return clock() - started


def _clock(device: str) -> Callable[[], float]:
    """Return what times a device: the CPU by its own time, so that others at work do not count."""
    return time.process_time if device == "cpu" else time.perf_counter


def _tried(member: Member, data: DataSet, device: str) -> Pace:
    classes = BINARY if member.label is not None else len(data.classes)
    network = NormalisedNetwork(member.recipe.architecture, channels=data.channels, classes=classes)
    network = network.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    few = min(member.recipe.batch, TRIED_IMAGES, len(data))
    kept: dict[int, int] = {}

    def keep(tensor: Tensor) -> Tensor:
        kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    # The first step pays for what is done once; it tells what is kept, and whether a batch of
    # the recipe's own size, whose images cost less each, can be afforded.
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        _learn_seconds(network, member, data, few, device)
    for parameter in network.parameters():
        kept.pop(parameter.untyped_storage().data_ptr(), None)
    seconds = _learn_seconds(network, member, data, few, device)
    batch = min(member.recipe.batch, len(data))
    if few < batch and seconds * batch / few < AFFORDED_SECONDS:
        _learn_seconds(network, member, data, batch, device)  # pays for a new shape
        seconds, few = _learn_seconds(network, member, data, batch, device), batch
    network.eval()
    images = np.array(data.images[:few])
    pred = timed(lambda: predict(network, images, device, member), _clock(device)) / few
    weights = sum(_bytes(t) for t in network.state_dict().values())
    held = sum(kept.values()) // min(member.recipe.batch, TRIED_IMAGES, len(data))
    return Pace(seconds / few, pred, weights, held, STATE_COPIES * weights)


def _learn_seconds(
    network: NormalisedNetwork, member: Member, data: DataSet, batch: int, device: str
) -> float:
    """Return how long a step of the member's procedure takes."""
    classes = BINARY if member.label is not None else len(data.classes)
    ignore = None if member.label is not None else data.classes.ignore
    labels = np.random.default_rng(0).integers(0, classes, (batch, *data.shape)).astype(np.uint8)
    target = torch.from_numpy(labels).to(device)
    images = torch.from_numpy(np.array(data.images[:batch])).to(device)
    shares = class_shares(labels, classes)
    task = TrainingTask(
        network=network,
        loss=build_loss(member.recipe.loss, frequencies=shares, ignore=ignore).to(device),
        batches=lambda _: iter([(images, target)]),
        steps=1,
        examine=lambda _: EpochMetrics(0.0, 0.0, 0.0),
        recipe=member.recipe.model_copy(update={"epochs": 1}),
        autocast=autocast(device, member.recipe.precision),
        classes=classes,
        ignore=ignore,
    )
    train = TRAINERS.build(member.recipe.procedure)
    clock = _clock(device)
    started = clock()
    epochs = len(train(task))
    return (clock() - started) / epochs


def _bytes(tensor: Tensor) -> int:
    return tensor.numel() * tensor.element_size()


def _drawn(count: int, data: DataSet) -> Map:
    rng = np.random.default_rng(0)
    maps = rng.random((count, len(data.classes), *data.shape), dtype=np.float32)
    return np.asarray(maps / maps.sum(axis=1, keepdims=True))
