"""What a trained member costs: time a picture, parameters, disk."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch

from ensemble.pipeline.sources import Sources
from evaluation.ground.arrays import Array
from evaluation.ground.layout import Run
from members.data.dataset import DataSet
from members.network import Network
from members.predict import PASS_PICTURES, predict
from members.recipe import Member, families
from members.train import WEIGHTS, load_network

PASSES = 3


@dataclass(frozen=True)
class Cost:
    """What a member costs.

    Args:
        milliseconds: a picture, through the network of one fold on one core of this machine: the
            fastest of three passes; None where there are no weights, as of imported maps.
        parameters: of the network of one fold; None likewise.
        bytes: of its maps of all splits on disk.
    """

    milliseconds: float | None
    parameters: int | None
    bytes: int


def member_cost(sources: Sources, name: str, data: DataSet) -> Cost:
    """Measure a member, or a family as the sum of its specialists.

    Args:
        sources: of the run.
        name: of the member or family.
        data: pictures to predict, a pass of them.

    Raises:
        BadRun: weights that are damaged.
    """
    run = sources.run
    alone = [member for member in sources.members if member.name == name]
    parts = families(sources.members).get(name, alone)
    names = [member.name for member in parts] or [name]
    disk = sum(_bytes(run, part) for part in names)
    if not parts or not all(_trained(run, member) for member in parts):
        return Cost(None, None, disk)
    pictures = np.array(data.pictures[:PASS_PICTURES])
    channels, classes = data.channels, len(data.classes)
    milliseconds, parameters = 0.0, 0
    for member in parts:
        folder = run.model(member.name, 0)
        network = load_network(member, folder, channels=channels, classes=classes)
        milliseconds += _milliseconds(network, member, pictures)
        parameters += sum(parameter.numel() for parameter in network.parameters())
    return Cost(milliseconds, parameters, disk)


def _trained(run: Run, member: Member) -> bool:
    return (run.model(member.name, 0) / WEIGHTS).is_file()


def _milliseconds(network: Network, member: Member, pictures: Array) -> float:
    with one_thread():
        predict(network, pictures, "cpu", member)  # warms code and caches
        seconds = []
        for _ in range(PASSES):
            started = time.perf_counter()
            predict(network, pictures, "cpu", member)
            seconds.append(time.perf_counter() - started)
    return 1000 * min(seconds) / len(pictures)


@contextmanager
def one_thread() -> Iterator[None]:
    """Keep torch on one thread for as long as the context lasts."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def _bytes(run: Run, name: str) -> int:
    folder = run.path / "probabilities" / name
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
