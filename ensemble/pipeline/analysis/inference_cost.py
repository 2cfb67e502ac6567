"""What a candidate costs an image: its networks, fusions and chain, measured once and kept.

How long a fusion and a chain take for an image, on maps of the run and one core.

What a trained member costs: time an image, parameters, disk.
"""

import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch

from ensemble.blas import one_blas_thread
from ensemble.block_fusion import stacked
from ensemble.fitted_json import load_fitted
from ensemble.fusion import Fusion, fuse_block
from ensemble.pipeline.bench.timing import machine
from ensemble.pipeline.candidates.fuse import FITTED, FusionSpec, resolve_fusion
from ensemble.pipeline.candidates.postprocess import applied_chain, read_candidate
from ensemble.pipeline.data.prepare import read_folds
from ensemble.pipeline.run.experiment import Experiment
from ensemble.pipeline.run.open_run import OOF, RunMembers
from ensemble.strategies import SEES_SPECIALISTS
from ensemble.strategies.weighted_mean import WeightedMean
from evaluation.core.errors import EnsError
from evaluation.core.files import read_json, write_json
from evaluation.core.provenance import digest_of, identity
from evaluation.core.run_folder import Run
from evaluation.core.specs import parse_spec
from evaluation.core.types import Array
from members.data.dataset import DataSet
from members.network import NormalisedNetwork
from members.predict import PASS_IMAGES, predict
from members.recipe import Member, specialist_families
from members.train import WEIGHTS, load_network

MEMBER_COSTS_PASSES = 3


@dataclass(frozen=True)
class Cost:
    """What a member costs.

    Args:
        milliseconds: an image, through the network of one fold on one core of this machine: the
            fastest of three passes; None where there are no weights, as of imported maps.
        parameters: of the network of one fold; None likewise.
        bytes: of its maps of all splits on disk.
    """

    milliseconds: float | None
    parameters: int | None
    bytes: int


def member_cost(sources: RunMembers, name: str, data: DataSet) -> Cost:
    """Measure a member, or a family as the sum of its specialists.

    Args:
        sources: of the run.
        name: of the member or family.
        data: images to predict, a pass of them.

    Raises:
        BadRun: weights that are damaged.
    """
    run = sources.run
    alone = [member for member in sources.members if member.name == name]
    parts = specialist_families(sources.members).get(name, alone)
    names = [member.name for member in parts] or [name]
    disk = sum(_bytes(run, part) for part in names)
    if not parts or not all(_trained(run, member) for member in parts):
        return Cost(None, None, disk)
    images = np.array(data.images[:PASS_IMAGES])
    channels, classes = data.channels, len(data.classes)
    milliseconds, parameters = 0.0, 0
    for member in parts:
        folder = run.model(member.name, 0)
        network = load_network(member, folder, channels=channels, classes=classes)
        milliseconds += _milliseconds_member_costs(network, member, images)
        parameters += sum(parameter.numel() for parameter in network.parameters())
    return Cost(milliseconds, parameters, disk)


def _trained(run: Run, member: Member) -> bool:
    return (run.model(member.name, 0) / WEIGHTS).is_file()


def _milliseconds_member_costs(network: NormalisedNetwork, member: Member, images: Array) -> float:
    with one_thread():
        predict(network, images, "cpu", member)  # warms code and caches
        seconds = []
        for _ in range(MEMBER_COSTS_PASSES):
            started = time.perf_counter()
            predict(network, images, "cpu", member)
            seconds.append(time.perf_counter() - started)
    return 1000 * min(seconds) / len(images)


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


IMAGES, PASSES = 16, 3


def fusion_milliseconds(sources: RunMembers, plan: FusionSpec, split: str) -> float:
    """Time a fitted fusion.

    Args:
        sources: of the run.
        plan: of the fusion.
        split: whose maps are taken.

    Raises:
        BadRun: the fusion or maps are missing.
    """
    raw = parse_spec(plan.strategy).name in SEES_SPECIALISTS
    fusion = load_fitted(sources.run.fusion(plan.name) / FITTED).fusion
    images = _images(sources, split)
    readers = [sources.open(member, split, raw=raw) for member in plan.members]
    maps = stacked(readers, slice(0, len(images)))
    return _milliseconds(lambda: fuse_block(fusion, maps, images), len(images))


def chain_milliseconds(sources: RunMembers, candidate: str, split: str) -> float:
    """Time a candidate's chain, as it was fitted; the plain argmax is one too.

    Args:
        sources: of the run.
        candidate: its name.
        split: whose maps are taken.

    Raises:
        BadRun: no such candidate, or its maps are missing.
    """
    source, _ = read_candidate(sources.run, candidate)
    reader = sources.open(source, split)
    steps = applied_chain(sources.run, candidate, floor=reader.floor)
    images = _images(sources, split)
    maps = reader.read(slice(0, len(images)))
    return _milliseconds(lambda: steps(maps, images), len(images))


def used_members(sources: RunMembers, plan: FusionSpec) -> tuple[str, ...]:
    """Return the members of a fusion but those that it gives no weight at all.

    Args:
        sources: of the run.
        plan: of the fusion.

    Raises:
        BadRun: the fusion is missing.
    """
    fusion: Fusion = load_fitted(sources.run.fusion(plan.name) / FITTED).fusion
    if not isinstance(fusion, WeightedMean):
        return plan.members
    weighs = np.asarray(fusion.weights.reshape(len(plan.members), -1).any(axis=1))
    return tuple(name for name, has in zip(plan.members, weighs, strict=True) if has)


def _images(sources: RunMembers, split: str) -> np.ndarray:
    return np.array(DataSet.load(sources.run.data(split)).images[:IMAGES])


def _milliseconds(work: Callable[[], object], images: int) -> float:
    """Return the fastest of some passes: what others do on the machine only ever adds."""
    with one_thread(), one_blas_thread():
        work()
        seconds = []
        for _ in range(PASSES):
            started = time.perf_counter()
            work()
            seconds.append(time.perf_counter() - started)
    return 1000 * min(seconds) / images


COSTS = "costs.json"


@dataclass(frozen=True)
class Price:
    """What a candidate needs.

    Args:
        members: whose networks have to run.
        milliseconds: an image, on one core of this machine; NaN where a part is unknown.
    """

    members: tuple[str, ...]
    milliseconds: float


@dataclass(frozen=True)
class Meter:
    """Measures what is not known yet and keeps it in the run's `costs.json`.

    A number holds for the processor and for what it was measured of; else it is measured again.

    Args:
        sources: of the run.
        experiment: what was asked of it.
        split: whose images and maps are taken where there are none of `oof`.
        log: receives a line for whatever is measured, or cannot be.
    """

    sources: RunMembers
    experiment: Experiment
    split: str
    log: Callable[[str], None]

    def price(self, candidate: str) -> Price:
        """Return what a candidate costs.

        Raises:
            BadRun: no such candidate.
        """
        source, _ = read_candidate(self.sources.run, candidate)
        members, fusions = self._below(source)
        parts = [
            *(self._member(name) for name in members),
            *(self._fusion(name) for name in fusions),
            self._chain(candidate),
        ]
        return Price(tuple(members), sum(parts))

    def _below(self, source: str) -> tuple[list[str], list[str]]:
        """List the members and the fusions that a source is made of, each once."""
        if source in self.sources.names():
            return [source], []
        members, fusions = [], [source]
        for part in self._used(source):
            its_members, its_fusions = self._below(part)
            members += its_members
            fusions += its_fusions
        return list(dict.fromkeys(members)), list(dict.fromkeys(fusions))

    def _used(self, fusion: str) -> tuple[str, ...]:
        plan = resolve_fusion(self.experiment, self.sources, fusion)
        try:
            return used_members(self.sources, plan)
        except EnsError:
            return plan.members

    # A number holds for every split, so that it is measured on the one that all of them share.
    def _where(self, source: str) -> str:
        return OOF if OOF in self.sources.splits(source) else self.split

    def _member(self, name: str) -> float:
        where = self._where(name)

        def measure() -> float | None:
            data = DataSet.load(self.sources.run.data(where))
            one = member_cost(self.sources, name, data).milliseconds
            return None if one is None else one * len(read_folds(self.sources.run))

        return self._kept(f"member {name}", self.sources.identity(name, where), measure)

    def _fusion(self, name: str) -> float:
        where = self._where(name)

        def measure() -> float:
            plan = resolve_fusion(self.experiment, self.sources, name)
            return fusion_milliseconds(self.sources, plan, where)

        return self._kept(f"fusion {name}", self.sources.identity(name, where), measure)

    def _chain(self, candidate: str) -> float:
        where = self._where(read_candidate(self.sources.run, candidate)[0])

        def measure() -> float:
            return chain_milliseconds(self.sources, candidate, where)

        of = identity(self.sources.run.labels(candidate, where))
        return self._kept(f"chain of {candidate}", of, measure)

    def _kept(self, part: str, of: str | None, measure: Callable[[], float | None]) -> float:
        """Return what is known of a part, or measure it; NaN where it cannot be measured."""
        file = self.sources.run.path / COSTS
        kept = read_json(file) if file.is_file() else {}
        key = digest_of([of, machine()["processor"]])
        if kept.get(part, {}).get("of") != key:
            try:
                milliseconds = measure()
            except EnsError as error:
                self.log(f"{part}: cost not measured, {error}")
                return math.nan
            kept[part] = {"milliseconds": milliseconds, "of": key}
            write_json(file, kept)
            known = "unknown, no weights" if milliseconds is None else f"{milliseconds:.2f} ms"
            self.log(f"{part}: an image costs {known}")
        found = kept[part]["milliseconds"]
        return math.nan if found is None else float(found)
