"""Candidates of a run: a member or fusion through a chain, as label maps of every split."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from ensemble.pipeline.candidates.chains import (
    FittedChain,
    fit_inputs,
    fit_on_oof,
    fitted_chain_is_current,
    read_fitted_chain,
    save_fitted_chain,
)
from ensemble.pipeline.data.prepare import classes_identity, run_classes, split_identity
from ensemble.pipeline.run.open_run import RunMembers
from evaluation.core.blocks import blocks
from evaluation.core.errors import BadRun
from evaluation.core.files import (
    atomic_folder,
    check_no_external_links,
    create_npy,
    open_array,
    read_json,
    write_json,
)
from evaluation.core.progress import progress
from evaluation.core.provenance import digests, is_current, record, verify_outputs
from evaluation.core.run_folder import CANDIDATE, Run, run_lock
from evaluation.core.types import Array
from members.data.dataset import DataSet
from members.recipe import check_name
from postproc.chain import Chain, parse_chain
from postproc.postprocess import postprocess

ARGMAX = "argmax"
LABELS = "labels.npy"


def postprocess_run(
    run: Run,
    source: str,
    chain: str,
    *,
    name: str | None = None,
    log: Callable[[str], None],
) -> str:
    """Make a candidate of a fusion or member: label maps of every split it has maps of.

    A chain that learns is fitted on all of `oof` for the other splits, and for each fold of `oof`
    itself on the other folds.

    Args:
        run: the experiment folder.
        source: name of the fusion or member.
        chain: specs of the steps; empty for the plain argmax.
        name: of the candidate; by default made of both.
        log: receives a line for whatever was decided.

    Returns:
        The candidate's name.

    Raises:
        BadSpec: a chain that does not parse.
        BadRun: no such maps, or a chain that learns and no out-of-fold maps.
        Leak: the chain would learn from images that the source was trained on.
    """
    with run_lock(run.path):
        sources = RunMembers.of(run)
        return update_candidate(sources, source, chain, name=name, log=log)


def update_candidate(
    sources: RunMembers,
    source: str,
    chain: str,
    *,
    name: str | None,
    log: Callable[[str], None],
) -> str:
    """Write a candidate's label maps where they are missing or stale; see `postprocess_run`."""
    run, classes = sources.run, run_classes(sources.run)
    splits = sources.splits(source)
    if not splits:
        sources.open(source, "oof")  # says what is missing, and how to mend it
    floor = sources.open(source, splits[0]).floor
    steps = parse_chain(chain, classes=len(classes), ignore=classes.ignore, floor=floor)
    name = check_name(name or candidate_name(source, steps), "candidate")
    stale = [s for s in splits if not _is_current(sources, source, steps, name, s)]
    about = {"of": source, "chain": str(steps)}
    made_of = {"asked": about, "inputs": fit_inputs(sources, source, steps)}
    kept = fitted_chain_is_current(run, name, **made_of)
    fitted = None if kept and not stale else fit_on_oof(sources, source, steps, log)
    known = run.path / "labels" / name / CANDIDATE
    if not known.is_file() or read_json(known) != about:
        write_json(known, about)
    if fitted is not None:
        save_fitted_chain(run, name, fitted, **made_of)
        for split in stale:
            _label(sources, source, steps, fitted, name, split, log)
    return name


def candidate_name(source: str, chain: Chain) -> str:
    """Name a candidate after its source and steps, as `stacking+suppress_background.crf`."""
    return f"{source}_{'.'.join(spec.name for spec in chain.specs) or ARGMAX}"


def read_candidate(run: Run, name: str) -> tuple[str, str]:
    """Return what a candidate is made of: its source and its chain.

    Raises:
        BadRun: no such candidate.
    """
    file = run.path / "labels" / name / CANDIDATE
    if not file.is_file():
        known = ", ".join(run.candidates()) or "none yet"
        raise BadRun(f"no candidate {name!r}; known: {known}; `ens postprocess` makes one")
    about = read_json(file)
    return about["of"], about["chain"]


def applied_chain(run: Run, candidate: str, *, floor: float) -> Chain:
    """Return a candidate's chain with what its steps have learned.

    Args:
        run: the experiment folder.
        candidate: its name.
        floor: half the quantum of the maps that it is applied to.

    Raises:
        BadRun: no such candidate, or a chain that is not what was written.
    """
    _, asked = read_candidate(run, candidate)
    fitted, classes = read_fitted_chain(run, candidate), run_classes(run)
    text = fitted["chain"] if fitted else asked
    return parse_chain(text, classes=len(classes), ignore=classes.ignore, floor=floor)


def read_labels(run: Run, candidate: str, split: str) -> Array:
    """Open a candidate's label maps.

    Raises:
        BadRun: it has none of this split, or they are not what was written.
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
    labels, data = open_array(file), DataSet.load(run.data(split))
    if labels.dtype != np.uint8 or labels.shape != (len(data), *data.shape):
        raise BadRun(
            f"{candidate} has {labels.dtype} labels of shape {labels.shape}; expected"
            f" {(len(data), *data.shape)} of uint8; postprocess again"
        )
    return labels


def is_labelled(sources: RunMembers, source: str, chain: str, name: str, split: str) -> bool:
    """Tell whether a candidate's label maps are there and would come out the same today."""
    classes = run_classes(sources.run)
    steps = parse_chain(chain, classes=len(classes), ignore=classes.ignore)
    return _is_current(sources, source, steps, name, split)


def _is_current(sources: RunMembers, source: str, chain: Chain, name: str, split: str) -> bool:
    asked, inputs = _made_of(sources, source, chain, split)
    return is_current(sources.run.labels(name, split), asked=asked, inputs=inputs)


def _made_of(
    sources: RunMembers, source: str, chain: Chain, split: str
) -> tuple[dict[str, Any], dict[str, str]]:
    inputs = {"maps": str(sources.identity(source, split))}
    inputs["classes"] = classes_identity(sources.run)
    if chain.needs_images:
        inputs["images"] = split_identity(sources.run, split)
    inputs |= fit_inputs(sources, source, chain)
    return {"of": source, "chain": str(chain)}, inputs


def _label(
    sources: RunMembers,
    source: str,
    asked_chain: Chain,
    fitted: FittedChain,
    name: str,
    split: str,
    log: Callable[[str], None],
) -> None:
    run = sources.run
    asked, inputs = _made_of(sources, source, asked_chain, split)
    data, maps = DataSet.load(run.data(split)), sources.open(source, split)
    if maps.ids != data.ids:
        raise BadRun(f"{source!r} has maps of other images than {split}; make them again")
    with atomic_folder(run.labels(name, split)) as partial:
        write_labels(
            partial / LABELS,
            postprocess(maps.read, len(data), fitted.of(split), images=data.images),
            (len(data), *data.shape),
        )
        record(partial, asked=asked, inputs=inputs, outputs=digests(partial, [LABELS]))
    log(f"{name}: {split} labelled, {len(data)} images")


def write_labels(path: Path, labelled: Any, shape: tuple[int, int, int]) -> None:
    """Write label maps block by block into a `.npy` of uint8.

    Args:
        path: of the file.
        labelled: pairs of a slice of images and their labels.
        shape: images, rows, cols.
    """
    labels = create_npy(path, dtype=np.uint8, shape=shape)
    for block, part in progress(labelled, "postprocess", len(blocks(shape[0]))):
        labels[block] = part
    labels.flush()
