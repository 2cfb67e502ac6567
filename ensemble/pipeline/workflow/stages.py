"""The stages that a run still has to do, and what they take in time, disk and memory."""

import math
import os
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from ensemble.pipeline.analysis.timing import (
    NetworkTiming,
    chain_seconds,
    disk_seconds,
    measure_network,
    timed,
)
from ensemble.pipeline.candidates.fuse import resolve_fusion
from ensemble.pipeline.candidates.postprocess import ARGMAX, labels_record, run_chain
from ensemble.pipeline.candidates.staleness import requested_candidates
from ensemble.pipeline.data.prepare import read_folds
from ensemble.pipeline.members.jobs import is_predicted, is_trained
from ensemble.pipeline.members.networks import examine_network
from ensemble.pipeline.members.teaching import network_folds, predicted_splits
from ensemble.pipeline.run.experiment import Experiment
from ensemble.pipeline.run.open_run import RunMembers
from ensemble.pipeline.workflow.preflight import check_fusion
from evaluation.core.ragged import block_images
from evaluation.core.run_folder import OOF, Run
from members.batches import oversampled
from members.codecs import codec
from members.data.dataset import DataSet, class_pixels
from members.predict import predict
from members.recipe import Member
from members.train import HOLDOUT_SHARE
from postproc.chain import FLOAT16_FLOOR

FOLD_BYTES = 60_000
"""Of a fold besides its weights: history, curves, record."""


@dataclass(frozen=True)
class PlannedStage:
    """One stage of a run.

    Args:
        step: `train`, `predict`, `fuse`, `postprocess`, or `data`.
        name: of the member, fusion or candidate.
        parts: number of its folds or splits.
        missing: of them, those that are missing or stale.
        seconds: that the missing ones take, about; training at most, since it may stop early.
        bytes_to_write: of the missing ones.
        memory_bytes: of one process that does it, besides the process itself; training only.
    """

    step: str
    name: str
    parts: int
    missing: int
    seconds: float
    bytes_to_write: int
    memory_bytes: int = 0


@dataclass(frozen=True)
class PreparedRun:
    """A run whose data are prepared.

    Args:
        run_members: its members.
        experiment: what to do.
        devices: their names.
        num_workers: processes that run in parallel.
        new: the data are still to be written.
    """

    run_members: RunMembers
    experiment: Experiment
    devices: list[str]
    num_workers: int
    new: bool

    @property
    def run(self) -> Run:
        """The experiment folder."""
        return self.run_members.run

    def data(self, split: str) -> DataSet:
        """Open the images of a split."""
        return DataSet.load(self.run.data(split))

    def map_bytes(self, split: str, *, classes: int | None = None) -> int:
        """Bytes of a split's maps in a store; a last, short chunk is taken for a whole one."""
        data = self.data(split)
        pixels = 0
        for images, size in data.extent.runs:
            chunk = min(block_images(size), images)
            pixels += -(-images // chunk) * chunk * math.prod(size)
        classes = classes or len(data.classes)
        return int(pixels * classes * codec(self.experiment.store_dtype).value_bytes(classes))

    @cached_property
    def io_seconds(self) -> tuple[float, float]:
        """Seconds to read and to write a pixel of maps."""
        return disk_seconds(self.data(OOF), self.experiment.store_dtype)


def planned_stages(prepared: PreparedRun) -> list[PlannedStage]:
    """List the stages in their order."""
    timings: dict[str, NetworkTiming] = {}
    trained: list[PlannedStage] = []
    predicted: list[PlannedStage] = []
    run_members = prepared.run_members
    for member in run_members.members:
        key = str((member.recipe.model_dump(), member.label is None))
        if key not in timings:
            timings[key] = measure_network(member, prepared.data(OOF), prepared.devices[0])
        trained.append(_training(prepared, member, timings[key]))
        predicted.append(_prediction(prepared, member, timings[key]))
    predicted += [_external_prediction(prepared, member) for member in run_members.networks]
    fused = [_fusion(prepared, name) for name in prepared.experiment.fusions]
    data = [_data(prepared)] if prepared.new else []
    return [*data, *trained, *predicted, *fused, *_labels(prepared)]


def _data(prepared: PreparedRun) -> PlannedStage:
    splits = prepared.run.splits()
    sets = [prepared.data(split) for split in splits]
    size = sum(d.images.nbytes + (0 if d.masks is None else d.masks.nbytes) for d in sets)
    return PlannedStage("data", prepared.experiment.data, len(splits), len(splits), 0.0, size)


def _training(prepared: PreparedRun, member: Member, timing: NetworkTiming) -> PlannedStage:
    run, recipe, folds = prepared.run, member.recipe, network_folds(prepared.run, member)
    missing = [f for f in folds if not is_trained(run, prepared.experiment, member, f)]
    data = prepared.data(OOF)
    pixels = class_pixels(data.target(), len(data.classes))
    times = len(oversampled(pixels, ignore=data.classes.ignore, times=recipe.oversample))
    seconds = 0.0
    for fold in missing:
        learned = len(fold.training) * (1 - HOLDOUT_SHARE) * recipe.train_share
        learned *= times / len(pixels)
        held_out = data.extent.take(fold.training).pixels * HOLDOUT_SHARE
        epoch = learned * timing.train_step_seconds + held_out * timing.predict_seconds
        seconds += recipe.epochs * epoch
    batch = min(recipe.batch, len(data))
    # Images and masks are in memory during training.
    memory = (
        batch * timing.image_bytes + timing.state_bytes + data.images.nbytes + data.extent.pixels
    )
    return PlannedStage(
        "train",
        member.name,
        len(folds),
        len(missing),
        seconds / _parallel(prepared, len(missing)),
        len(missing) * (timing.weights_bytes + FOLD_BYTES),
        memory,
    )


def _prediction(prepared: PreparedRun, member: Member, timing: NetworkTiming) -> PlannedStage:
    run = prepared.run
    folds, splits = network_folds(run, member), predicted_splits(run, member)
    dtype = prepared.experiment.store_dtype
    missing = [s for s in splits if not is_predicted(run, member, s, dtype)]
    seconds = 0.0
    for split in missing:
        models = 1 if split == OOF else len(folds)
        per_pixel = models * timing.predict_seconds + prepared.io_seconds[1]
        seconds += prepared.data(split).extent.pixels * per_pixel
    classes = None if member.label is None else 1
    size = sum(prepared.map_bytes(split, classes=classes) for split in missing)
    seconds /= _parallel(prepared, len(missing))
    return PlannedStage("predict", member.name, len(splits), len(missing), seconds, size)


def _external_prediction(prepared: PreparedRun, member: Member) -> PlannedStage:
    """Time a network from elsewhere on the images that it is examined on."""
    run, splits, dtype = prepared.run, prepared.run.splits(), prepared.experiment.store_dtype
    missing = [s for s in splits if not is_predicted(run, member, s, dtype)]
    seconds, size = 0.0, sum(prepared.map_bytes(split) for split in missing)
    if missing:
        data = prepared.data(OOF)
        network, images = examine_network(run, member).network, np.asarray(data.images[:1])
        per_pixel = timed(lambda: predict(network, images, "cpu", member)) / images[0, 0].size
        pixels = sum(prepared.data(split).extent.pixels for split in missing)
        seconds = pixels * (per_pixel + prepared.io_seconds[1])
    return PlannedStage("predict", member.name, len(splits), len(missing), seconds, size)


def _parallel(prepared: PreparedRun, missing: int) -> int:
    """Return how many jobs run in parallel if all members lack as many parts as this one."""
    return min(prepared.num_workers, max(1, missing * len(prepared.run_members.members)))


def _fusion(prepared: PreparedRun, name: str) -> PlannedStage:
    """Count passes over the disk; what a strategy computes comes on top."""
    run_members, experiment = prepared.run_members, prepared.experiment
    entry = experiment.fusion_entry(name)
    members, partial = entry.members or run_members.names(), entry.missing == "renormalise"
    # Networks get maps of every split; imported members have what was imported.
    imported = [
        set(run_members.splits(m, partial=partial)) for m in members if m in run_members.imported
    ]
    splits = [split for split in prepared.run.splits() if all(split in s for s in imported)]
    missing = splits
    if any(run_members.splits(member) for member in run_members.names()):
        spec = resolve_fusion(experiment, run_members, name)
        missing = [split for split in splits if not spec.is_current(run_members, split)]
    read, write = prepared.io_seconds
    pixels = sum(prepared.data(split).extent.pixels for split in missing)
    seconds = pixels * (len(members) * read + write)
    if missing and check_fusion(run_members, experiment, name):
        passes = len(read_folds(prepared.run)) + 1
        seconds += passes * len(members) * prepared.data(OOF).extent.pixels * read
    size = sum(prepared.map_bytes(split) for split in missing)
    return PlannedStage("fuse", name, len(splits), len(missing), seconds, size)


def _labels(prepared: PreparedRun) -> Iterator[PlannedStage]:
    """Yield a stage per candidate: each source by argmax, and each fusion by each chain."""
    run_members, experiment, run = prepared.run_members, prepared.experiment, prepared.run
    sources = [*run_members.names(), *experiment.fusions]
    candidates = {
        **{f"{source}_{ARGMAX}": (source, "") for source in sources},
        **requested_candidates(experiment),
    }
    timings: dict[str, float] = {}
    for name, (source, text) in candidates.items():
        chain = run_chain(run, text)
        if text not in timings:
            timings[text] = chain_seconds(chain, prepared.data(OOF), FLOAT16_FLOOR)
        splits = run_members.splits(source) if source in run_members.imported else run.splits()
        missing = [
            split
            for split in splits
            if not labels_record(run_members, source, chain, name, split).is_current()
        ]
        per_pixel = prepared.io_seconds[0] + timings[text] / (os.cpu_count() or 1)
        pixels = sum(prepared.data(split).extent.pixels for split in missing)  # a byte each
        seconds = pixels * per_pixel
        yield PlannedStage("postprocess", name, len(splits), len(missing), seconds, pixels)
