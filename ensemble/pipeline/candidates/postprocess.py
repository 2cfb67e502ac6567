"""Candidates of a run: a member or fusion through a chain, as label maps of every split."""

from collections.abc import Iterable
from pathlib import Path

import numpy as np

from ensemble.pipeline.candidates.chains import (
    FittedChain,
    fit_digests,
    fit_on_oof,
    fitted_chain_record,
    read_fitted_chain,
    save_fitted_chain,
)
from ensemble.pipeline.data.prepare import classes_identity, run_classes, split_identity
from ensemble.pipeline.run.expected_record import ExpectedRecord
from ensemble.pipeline.run.open_run import RunMembers, open_split, run_metric
from evaluation.core.blocks import blocks
from evaluation.core.errors import BadRun, format_count
from evaluation.core.files import (
    atomic_folder,
    check_no_external_links,
    create_stack,
    open_stack,
    read_json,
    write_json,
)
from evaluation.core.progress import Log, progress
from evaluation.core.provenance import digests, verify_outputs
from evaluation.core.ragged import Extent, Stack, extent_of
from evaluation.core.run_folder import CANDIDATE, Run, run_lock
from evaluation.core.types import Array
from evaluation.run_metric import set_metric
from members.data.dataset import DataSet
from members.recipe import check_name
from postproc.chain import FLOAT16_FLOOR, Chain, check_image_type, parse_chain
from postproc.postprocess import postprocess

ARGMAX = "argmax"
LABELS = "labels.npy"


def postprocess_run(run: Run, source: str, chain: str, *, name: str | None = None, log: Log) -> str:
    """Make a candidate of a fusion or member: label maps of every split it has maps of.

    A chain that learns is fitted on all of `oof` for the other splits, and for each fold of `oof`
    itself on the other folds.

    Args:
        run: the experiment folder.
        source: name of the fusion or member.
        chain: specs of the steps; empty for the plain argmax.
        name: of the candidate; by default made of both.
        log: receives a line per decision.

    Returns:
        The candidate's name.

    Raises:
        BadSpec: a chain that does not parse.
        BadRun: no such maps, or a chain that learns and no out-of-fold maps.
        LeakageError: the chain would learn from images that the source was trained on.
    """
    with run_lock(run.path):
        return update_candidate(RunMembers.of(run), source, chain, name=name, log=log)


def update_candidate(
    run_members: RunMembers,
    source: str,
    chain: str,
    *,
    name: str | None,
    log: Log,
    device: str = "auto",
) -> str:
    """Write a candidate's label maps where they are missing or stale; see `postprocess_run`."""
    run = run_members.run
    run_members.check_has_maps(source)
    splits = run_members.splits(source)
    steps = run_chain(run, chain, floor=run_members.open(source, splits[0]).floor, device=device)
    images = DataSet.load(run.data(splits[0])).images
    check_image_type(images, steps.image_need)  # before anything is written
    name = check_name(name or candidate_name(source, steps), "candidate")
    expected = {split: labels_record(run_members, source, steps, name, split) for split in splits}
    stale = [split for split in splits if not expected[split].is_current()]
    chain_record = fitted_chain_record(run_members, name, source, steps)
    fitted = None
    if stale or not chain_record.is_current():
        fitted = fit_on_oof(run_members, source, steps, log)
    file = run.path / "labels" / name / CANDIDATE
    if not file.is_file() or read_json(file) != chain_record.config:
        write_json(file, chain_record.config)
    if fitted is not None:
        save_fitted_chain(chain_record, fitted)
        for split in stale:
            _label_split(run_members, source, split, fitted, expected[split])
            images = format_count(len(DataSet.load(run.data(split))), "image")
            log(f"{name}: {split} labelled, {images}")
    return name


def run_chain(run: Run, chain: str, *, floor: float = FLOAT16_FLOOR, device: str = "auto") -> Chain:
    """Read a chain for the classes of a run; see `parse_chain`."""
    classes = run_classes(run)
    metric = set_metric(run_metric(run), classes)
    return parse_chain(
        chain,
        classes=len(classes),
        ignore=classes.ignore,
        floor=floor,
        metric=metric,
        device=device,
    )


def candidate_name(source: str, chain: Chain) -> str:
    """Name a candidate after its source and steps, as `stacking_suppress_background.crf`."""
    return f"{source}_{'.'.join(spec.name for spec in chain.specs) or ARGMAX}"


def read_candidate(run: Run, name: str) -> tuple[str, str]:
    """Return a candidate's source and chain.

    Raises:
        BadRun: no such candidate.
    """
    file = run.path / "labels" / name / CANDIDATE
    if not file.is_file():
        known = ", ".join(run.candidates()) or "none yet"
        raise BadRun(
            f"no candidate {name!r}; known: {known}; `ens score` makes those"
            " without steps, `ens postprocess` others"
        )
    about = read_json(file)
    return about["of"], about["chain"]


def applied_chain(run: Run, candidate: str, *, floor: float) -> Chain:
    """Return a candidate's chain with what its steps have learned; see `parse_chain` for `floor`.

    Raises:
        BadRun: no such candidate, or its fitted chain was changed since it was written.
    """
    _, chain = read_candidate(run, candidate)
    fitted = read_fitted_chain(run, candidate)
    return run_chain(run, fitted["chain"] if fitted else chain, floor=floor)


def read_labels(run: Run, candidate: str, split: str) -> Stack:
    """Open a candidate's label maps, (image, row, col).

    Raises:
        BadRun: it has none of this split, or they were changed since they were written.
    """
    file = run.labels(candidate, split) / LABELS
    if not file.is_file():
        known = ", ".join(c for c in run.candidates() if run.labels(c, split).is_dir()) or "none"
        raise BadRun(
            f"no candidate {candidate!r} with label maps of split {split!r}; known: {known};"
            " `ens postprocess` makes one"
        )
    check_no_external_links(run.path)
    verify_outputs(file.parent)
    extent = DataSet.load(run.data(split)).extent
    labels = open_stack(file, extent)
    if labels.dtype != np.uint8 or labels.ndim != 3 or extent_of(labels) != extent:
        raise BadRun(
            f"{candidate} has {labels.dtype} labels of shape {labels.shape}; expected uint8 of"
            f" {len(extent)} images of {extent} pixels; postprocess again"
        )
    return labels


def labels_record(
    run_members: RunMembers, source: str, chain: Chain, name: str, split: str
) -> ExpectedRecord:
    """Return what the record of a candidate's label maps would say today.

    The target is an input only of chains that learn.
    """
    run = run_members.run
    inputs = {
        "maps": str(run_members.digest(source, split)),
        "classes": classes_identity(run),
        **fit_digests(run_members, source, chain),
    }
    if chain.needs_images:
        inputs["images"] = split_identity(run, split, target=False)
    config = {"of": source, "chain": str(chain)}
    return ExpectedRecord(run.labels(name, split), config, inputs)


def is_labelled(run_members: RunMembers, source: str, chain: str, name: str, split: str) -> bool:
    """Tell whether a candidate's label maps exist and would come out the same today."""
    steps = run_chain(run_members.run, chain)
    return labels_record(run_members, source, steps, name, split).is_current()


def _label_split(
    run_members: RunMembers, source: str, split: str, fitted: FittedChain, expected: ExpectedRecord
) -> None:
    opened = open_split(run_members, split, [source])
    data, (maps,) = opened.data, opened.readers
    with atomic_folder(expected.folder) as partial:
        write_labels(
            partial / LABELS,
            postprocess(maps, fitted.for_split(split), images=data.images),
            data.extent,
        )
        expected.write(partial, outputs=digests(partial, [LABELS]))


def write_labels(path: Path, labelled: Iterable[tuple[slice, Array]], extent: Extent) -> None:
    """Write label maps block by block into a `.npy` of uint8; see `create_stack`."""
    labels = create_stack(path, dtype=np.uint8, extent=extent)
    for block, part in progress(labelled, "postprocess", len(blocks(extent))):
        labels[block] = part
    labels.flush()
