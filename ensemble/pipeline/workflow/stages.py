"""The steps of a run: what is there, and what the rest takes in time and disk."""

import os
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from ensemble.pipeline.analysis.timing import Pace, chain_seconds, network_pace
from ensemble.pipeline.candidates.fuse import is_fused, resolve_fusion
from ensemble.pipeline.candidates.postprocess import ARGMAX, is_labelled
from ensemble.pipeline.data.prepare import read_folds
from ensemble.pipeline.members.train import is_predicted, is_trained
from ensemble.pipeline.run.open_run import OOF
from ensemble.pipeline.run.prepared_run import PreparedRun
from ensemble.pipeline.workflow.preflight import check_fusion
from members.batches import class_shares, oversampled
from members.recipe import Member
from members.train import HOLDOUT_SHARE
from postproc.chain import FLOAT16_FLOOR, parse_chain

FOLD_BYTES = 60_000
"""Of a fold beside its weights: history, curves, record."""


@dataclass(frozen=True)
class PlannedStage:
    """One step of a run.

    Args:
        step: `train`, `predict`, `fuse`, `postprocess`, or `data`.
        name: of the member, fusion or candidate.
        parts: folds or splits it has.
        missing: of them, those that are not there or stale.
        seconds: that the missing ones take, about; training at most, since it may stop early.
        bytes_to_write: of the missing ones.
        memory_bytes: of one process that does it, beside the process itself; training only.
    """

    step: str
    name: str
    parts: int
    missing: int
    seconds: float
    bytes_to_write: int
    memory_bytes: int = 0


def planned_stages(laid: PreparedRun) -> list[PlannedStage]:
    """List the steps in their order."""
    data = [_data(laid)] if laid.new else []
    paces: dict[str, Pace] = {}
    trained: list[PlannedStage] = []
    predicted: list[PlannedStage] = []
    for member in laid.sources.members:
        key = str((member.recipe.model_dump(), member.label is None))
        if key not in paces:
            paces[key] = network_pace(member, laid.data(OOF), laid.where[0])
        trained.append(_training(laid, member, paces[key]))
        predicted.append(_prediction(laid, member, paces[key]))
    fused = [_fusion(laid, name) for name in laid.experiment.fusions]
    return [*data, *trained, *predicted, *fused, *_labels(laid)]


def _data(laid: PreparedRun) -> PlannedStage:
    splits = laid.sources.run.splits()
    size = 0
    for split in splits:
        data = laid.data(split)
        size += data.images.nbytes + (0 if data.masks is None else data.masks.nbytes)
    return PlannedStage("data", laid.experiment.data, len(splits), len(splits), 0.0, size)


def _training(laid: PreparedRun, member: Member, pace: Pace) -> PlannedStage:
    run, recipe = laid.sources.run, member.recipe
    folds = read_folds(run)
    missing = [f for f in folds if not is_trained(run, laid.experiment, member, f)]
    data = laid.data(OOF)
    target = np.asarray(data.target())
    shares = class_shares(target, len(data.classes))
    times = len(oversampled(target, shares, ignore=data.classes.ignore, times=recipe.oversample))
    seconds = 0.0
    for fold in missing:
        learnt = len(fold.training) * (1 - HOLDOUT_SHARE) * recipe.train_share * times / len(target)
        held = len(fold.training) * HOLDOUT_SHARE
        seconds += recipe.epochs * (learnt * pace.learn_seconds + held * pace.predict_seconds)
    batch = min(recipe.batch, len(data))
    # uint8 images and masks lie in memory while they are learnt from
    memory = batch * pace.image_bytes + pace.state_bytes + target.size * (1 + data.channels)
    return PlannedStage(
        "train",
        member.name,
        len(folds),
        len(missing),
        seconds / min(laid.slots, max(1, len(missing) * len(laid.sources.members))),
        len(missing) * (pace.weights_bytes + FOLD_BYTES),
        memory,
    )


def _prediction(laid: PreparedRun, member: Member, pace: Pace) -> PlannedStage:
    run = laid.sources.run
    folds, dtype = read_folds(run), laid.experiment.store_dtype
    splits = run.splits()
    missing = [s for s in splits if not is_predicted(run, member, s, folds, dtype)]
    seconds = 0.0
    for split in missing:
        models = 1 if split == OOF else len(folds)
        seconds += len(laid.data(split)) * (models * pace.predict_seconds + laid.disk[1])
    depth = None if member.label is None else 1
    size = sum(laid.map_bytes(split, depth=depth) for split in missing)
    side_by_side = min(laid.slots, max(1, len(missing) * len(laid.sources.members)))
    return PlannedStage(
        "predict", member.name, len(splits), len(missing), seconds / side_by_side, size
    )


def _fusion(laid: PreparedRun, name: str) -> PlannedStage:
    """Count passes over the disk; what a strategy computes comes on top."""
    sources, asked = laid.sources, laid.experiment.fusions[name]
    named = (() if isinstance(asked, str) else asked.members) or sources.names()
    members = len(named)
    # Networks get maps of every split; foreign members have what was imported.
    has = [set(sources.splits(member)) for member in named if member in sources.foreign]
    splits = [split for split in sources.run.splits() if all(split in some for some in has)]
    missing = [s for s in splits if not _is_fused(laid, name, s)]
    read, write = laid.disk
    seconds = sum((len(laid.data(s)) * (members * read + write) for s in missing), 0.0)
    if missing and check_fusion(sources, laid.experiment, name):
        passes = len(read_folds(sources.run)) + 1
        seconds += passes * members * len(laid.data(OOF)) * read
    size = sum(laid.map_bytes(split) for split in missing)
    return PlannedStage("fuse", name, len(splits), len(missing), seconds, size)


def _is_fused(laid: PreparedRun, name: str, split: str) -> bool:
    sources = laid.sources
    if not any(sources.splits(member) for member in sources.names()):
        return False
    return is_fused(sources, resolve_fusion(laid.experiment, sources, name), split)


def _labels(laid: PreparedRun) -> Iterator[PlannedStage]:
    """Yield a step for each candidate: each source by argmax, and each fusion by each chain."""
    sources, experiment = laid.sources, laid.experiment
    classes = laid.data(OOF).classes
    wanted = [(name, "", f"{name}_{ARGMAX}") for name in [*sources.names(), *experiment.fusions]]
    wanted += [
        (fusion, chain, f"{fusion}_{name}")
        for fusion in experiment.fusions
        for name, chain in experiment.chains.items()
    ]
    paces: dict[str, float] = {}
    for source, text, name in wanted:
        chain = parse_chain(text, classes=len(classes), ignore=classes.ignore)
        if text not in paces:
            paces[text] = chain_seconds(chain, laid.data(OOF), FLOAT16_FLOOR)
        splits = sources.run.splits()
        if source in sources.foreign:
            splits = sources.splits(source)
        missing = [s for s in splits if not is_labelled(sources, source, text, name, s)]
        each = laid.disk[0] + paces[text] / (os.cpu_count() or 1)
        seconds = float(sum(len(laid.data(s)) for s in missing) * each)
        size = sum(laid.label_bytes(s) for s in missing)
        yield PlannedStage("postprocess", name, len(splits), len(missing), seconds, size)
