"""Inference time of members, fusions and chains per image on one core; kept in the run.

Each is the fastest of a few passes of one thread, in processor time: other work on the machine only
ever adds time, and by the clock it would add all that the thread waits.
"""

import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch

from ensemble.blas import one_blas_thread
from ensemble.block_fusion import read_members
from ensemble.decision import Decided
from ensemble.fitted_json import load_fitted
from ensemble.fusion import Fusion, fuse_block
from ensemble.pipeline.bench.timing import machine
from ensemble.pipeline.candidates.fuse import FITTED, FusionSpec, resolve_fusion
from ensemble.pipeline.candidates.postprocess import applied_chain, read_candidate
from ensemble.pipeline.members.teaching import network_folds
from ensemble.pipeline.run.experiment import Experiment
from ensemble.pipeline.run.open_run import RunMembers
from ensemble.strategies import ACCEPTS_ONE_VS_REST
from ensemble.strategies.weighted_mean import WeightedMean
from evaluation.core.errors import EnsError
from evaluation.core.files import read_json, write_json
from evaluation.core.progress import Log
from evaluation.core.provenance import digest_of, identity
from evaluation.core.run_folder import OOF
from evaluation.core.specs import parse_spec
from evaluation.core.types import Array
from members.data.dataset import DataSet
from members.network import NormalisedNetwork
from members.predict import BATCH_SIZE, num_parameters, open_network, predict
from members.recipe import Member, Recipe, specialist_families
from members.train import WEIGHTS

IMAGES, PASSES = 16, 3
COSTS = "costs.json"


@dataclass(frozen=True)
class MemberCost:
    """Time per image and parameters of one fold's network, None without weights; size of maps."""

    milliseconds: float | None
    parameters: int | None
    bytes: int


@dataclass(frozen=True)
class InferenceCost:
    """The members whose networks a candidate needs, and its time per image; NaN if unknown."""

    members: tuple[str, ...]
    milliseconds: float


@dataclass(frozen=True)
class CostMeter:
    """Measures costs, and keeps them in the run's `costs.json`.

    A number is valid for the processor and the artifact that it was measured on. Images and maps of
    `split` are used if there are none of `oof`; `log` receives a line per measurement.
    """

    run_members: RunMembers
    experiment: Experiment
    split: str
    log: Log

    def measure(self, candidate: str) -> InferenceCost:
        """Return the cost of an existing candidate."""
        source, _ = read_candidate(self.run_members.run, candidate)
        members, fusions = self._components(source)
        parts = [
            *(self._measure_member(name) for name in members),
            *(self._measure_fusion(name) for name in fusions),
            self._measure_chain(candidate),
        ]
        return InferenceCost(tuple(members), sum(parts))

    def _components(self, source: str) -> tuple[list[str], list[str]]:
        """List the members and the fusions that a source is made of, each once."""
        if source in self.run_members.names():
            return [source], []
        members, fusions = [], [source]
        spec = resolve_fusion(self.experiment, self.run_members, source)
        try:
            used = used_members(self.run_members, spec)
        except EnsError:
            used = spec.members
        for part in used:
            part_members, part_fusions = self._components(part)
            members += part_members
            fusions += part_fusions
        return list(dict.fromkeys(members)), list(dict.fromkeys(fusions))

    def _split_of(self, source: str) -> str:
        """A number is valid for every split, so it is measured on the one that all have."""
        return OOF if OOF in self.run_members.splits(source) else self.split

    def _measure_member(self, name: str) -> float:
        split = self._split_of(name)

        def measure() -> float | None:
            data = DataSet.load(self.run_members.run.data(split))
            cost = measure_member(self.run_members, name, data).milliseconds
            run_members = self.run_members
            if any(member.name == name for member in run_members.networks):
                return cost  # a network from elsewhere has no folds
            parts = [m for m in run_members.members if name in (m.name, m.family)]
            models = len(network_folds(run_members.run, parts[0])) if parts else 1
            return None if cost is None else cost * models

        return self._cached(f"member {name}", self.run_members.digest(name, split), measure)

    def _measure_fusion(self, name: str) -> float:
        split = self._split_of(name)

        def measure() -> float:
            spec = resolve_fusion(self.experiment, self.run_members, name)
            return measure_fusion(self.run_members, spec, split)

        return self._cached(f"fusion {name}", self.run_members.digest(name, split), measure)

    def _measure_chain(self, candidate: str) -> float:
        split = self._split_of(read_candidate(self.run_members.run, candidate)[0])
        labels = identity(self.run_members.run.labels(candidate, split))
        return self._cached(
            f"chain of {candidate}",
            labels,
            lambda: measure_chain(self.run_members, candidate, split),
        )

    def _cached(
        self, part: str, artifact: str | None, measure: Callable[[], float | None]
    ) -> float:
        """Return the milliseconds of a part, measured if unknown; NaN if that is impossible."""
        file = self.run_members.run.path / COSTS
        costs = read_json(file) if file.is_file() else {}
        key = digest_of([artifact, machine()["processor"]])
        if costs.get(part, {}).get("of") != key:
            try:
                milliseconds = measure()
            except EnsError as error:
                self.log(f"{part}: cost not measured, {error}")
                return math.nan
            costs[part] = {"milliseconds": milliseconds, "of": key}
            write_json(file, costs)
            text = "unknown, no weights" if milliseconds is None else f"{milliseconds:.2f} ms/image"
            self.log(f"{part}: {text}")
        cost = costs[part]["milliseconds"]
        return math.nan if cost is None else float(cost)


def measure_member(run_members: RunMembers, name: str, data: DataSet) -> MemberCost:
    """Measure a member on some images of a data set; a family as the sum of its specialists."""
    run = run_members.run
    everything = (*run_members.members, *run_members.networks)
    alone = [member for member in everything if member.name == name]
    parts = specialist_families(run_members.members).get(name, alone)
    folders = [run.path / "probabilities" / part for part in [m.name for m in parts] or [name]]
    size = sum(
        path.stat().st_size for folder in folders for path in folder.rglob("*") if path.is_file()
    )
    networks = [run.model(m.name, 0) if m.network is None else run.network(m.name) for m in parts]
    files = [f / WEIGHTS if m.network is None else f for m, f in zip(parts, networks, strict=True)]
    if not parts or not all(file.exists() for file in files):
        return MemberCost(None, None, size)
    images = np.array(data.images[: min(BATCH_SIZE, data.extent.runs[0][0])])
    channels, classes = data.channels, len(data.classes)
    milliseconds: float = 0.0
    parameters: int | None = 0
    for member, folder in zip(parts, networks, strict=True):
        with _single_thread():  # a network of onnxruntime keeps the threads that it is opened with
            network = open_network(member, folder, channels=channels, classes=classes)
        milliseconds += _fastest_ms(partial(predict, network, images, "cpu", member), len(images))
        count = num_parameters(network)
        parameters = None if count is None or parameters is None else parameters + count
    return MemberCost(milliseconds, parameters, size)


def network_milliseconds(recipe: Recipe, data: DataSet) -> float:
    """Return the milliseconds per image of an untrained network on a data set's first images."""
    images = np.array(data.images[: min(BATCH_SIZE, data.extent.runs[0][0])])
    network = NormalisedNetwork(
        recipe.architecture, channels=data.channels, classes=len(data.classes)
    )
    member = Member("network", recipe)
    return _fastest_ms(partial(predict, network.eval(), images, "cpu", member), len(images))


def measure_fusion(run_members: RunMembers, spec: FusionSpec, split: str) -> float:
    """Return the milliseconds per image of a fitted fusion, on maps of a split."""
    raw = parse_spec(spec.strategy).name in ACCEPTS_ONE_VS_REST
    fusion = load_fitted(run_members.run.fusion(spec.name) / FITTED).fusion
    images = _first_images(run_members, split)
    readers = [run_members.open(member, split, one_vs_rest=raw) for member in spec.members]
    maps = read_members(readers, slice(0, len(images)))
    return _fastest_ms(lambda: fuse_block(fusion, maps, images), len(images))


def measure_chain(run_members: RunMembers, candidate: str, split: str) -> float:
    """Return the milliseconds per image of a candidate's fitted chain, or of the plain argmax."""
    source, _ = read_candidate(run_members.run, candidate)
    reader = run_members.open(source, split)
    steps = applied_chain(run_members.run, candidate, floor=reader.floor)
    images = _first_images(run_members, split)
    maps = reader.read(slice(0, len(images)))
    return _fastest_ms(lambda: steps(maps, images), len(images))


def used_members(run_members: RunMembers, spec: FusionSpec) -> tuple[str, ...]:
    """Return the members of a fitted fusion, without those of weight 0."""
    fusion: Fusion = load_fitted(run_members.run.fusion(spec.name) / FITTED).fusion
    if isinstance(fusion, Decided):
        fusion = fusion.decision
    if not isinstance(fusion, WeightedMean):
        return spec.members
    has_weight = np.asarray(fusion.weights.reshape(len(spec.members), -1).any(axis=1))
    return tuple(name for name, used in zip(spec.members, has_weight, strict=True) if used)


def _first_images(run_members: RunMembers, split: str) -> Array:
    data = DataSet.load(run_members.run.data(split))
    return np.array(data.images[: min(IMAGES, data.extent.runs[0][0])])


def _fastest_ms(work: Callable[[], object], images: int) -> float:
    with _single_thread(), one_blas_thread():
        work()  # warms code and caches
        seconds = []
        for _ in range(PASSES):
            start = time.process_time()
            work()
            seconds.append(time.process_time() - start)
    return 1000 * min(seconds) / images


@contextmanager
def _single_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
