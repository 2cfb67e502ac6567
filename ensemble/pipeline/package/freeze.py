"""Pack a candidate: weights, recipes, the fitted fusion and chain, class names, checksums."""

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np

import ensemble.fitted_json as fitted
from ensemble.pipeline.candidates.chains import read_fitted_chain
from ensemble.pipeline.candidates.exports import record_export
from ensemble.pipeline.candidates.fuse import FITTED, resolve_fusion, update_fusion
from ensemble.pipeline.candidates.postprocess import read_candidate, read_labels, update_candidate
from ensemble.pipeline.candidates.staleness import Artifact, Staleness
from ensemble.pipeline.data.prepare import read_folds, run_classes
from ensemble.pipeline.package.apply import label
from ensemble.pipeline.package.manifest import (
    CONTENTS,
    FUSION,
    README,
    Contents,
    Package,
    model_folder,
    readme,
)
from ensemble.pipeline.run.open_run import OOF, RunMembers, run_experiment
from evaluation.core.blocks import BLOCK_IMAGES
from evaluation.core.errors import BadRun
from evaluation.core.files import atomic_folder, write_json
from evaluation.core.provenance import digest, identity, verify_outputs
from evaluation.core.run_folder import Run, run_lock
from members.data.dataset import DataSet
from members.devices import devices
from members.recipe import Recipe
from members.train import WEIGHTS

Log = Callable[[str], None]


def freeze(run: Run, candidate: str, out: Path, *, device: str, log: Log) -> Package:
    """Write a package and try it on images that the run has labelled.

    What the candidate is made of is made again first where it is stale.

    Args:
        run: the experiment folder.
        candidate: what to freeze.
        out: the package's folder; an older package there is replaced.
        device: where it is tried; see `members.devices.devices`.
        log: receives a line for whatever was done.

    Returns:
        The package.

    Raises:
        BadRun: no such candidate, one with imported maps or a fusion of fusions, or a folder that
            is no package.
    """
    if out.exists() and not (out / CONTENTS).is_file() and (out.is_file() or any(out.iterdir())):
        raise BadRun(f"{out} is there and is no package; choose another --out")
    where = devices(device)[0]
    with run_lock(run.path):
        sources = RunMembers.of(run)
        source, chain = read_candidate(run, candidate)
        strategy, members = _made_of(sources, source, log)
        nested = sorted(set(members) - set(sources.names()))
        if nested:
            raise BadRun(
                f"{candidate!r} fuses the fusion {nested[0]!r}, which a package cannot hold; freeze"
                " a candidate that fuses members"
            )
        foreign = sorted(set(members) & set(sources.foreign))
        if foreign:
            raise BadRun(
                f"{candidate!r} needs the imported maps of {', '.join(foreign)}, which no network"
                " here can make of new images; freeze a candidate without them"
            )
        update_candidate(sources, source, chain, name=candidate, log=log)
        with atomic_folder(out) as partial:
            package = _packed(sources, candidate, strategy, members, partial)
            _try_out(run, package, where, log)
        # Its weights, fusion and chain stand behind the out-of-fold labels; other images do not.
        splits = [OOF, *sources.splits(source)]
        split = next((s for s in splits if identity(run.labels(candidate, s))), OOF)
        Staleness(sources, run_experiment(run)).warn([Artifact("labels", candidate, split)], log)
        record_export(run, out, "package", candidate, split)
    return Package(out, package.contents)


def _made_of(sources: RunMembers, source: str, log: Log) -> tuple[str | None, tuple[str, ...]]:
    """Return the strategy and its members, or the one member; the fusion is brought up to date."""
    if source in sources.names():
        return None, (source,)
    plan = resolve_fusion(run_experiment(sources.run), sources, source)
    update_fusion(sources, plan, log)
    return plan.strategy, plan.members


def _packed(
    sources: RunMembers, candidate: str, strategy: str | None, members: tuple[str, ...], to: Path
) -> Package:
    run, experiment = sources.run, run_experiment(sources.run)
    source, chain = read_candidate(run, candidate)
    learned = read_fitted_chain(run, candidate)
    data = DataSet.load(run.data(OOF))
    recipes = experiment.recipes()
    contents = Contents(
        candidate=candidate,
        classes=run_classes(run).document(),
        channels=data.channels,
        shape=data.shape,
        store_dtype=experiment.store_dtype,
        folds=len(read_folds(run)),
        members={name: Recipe(**recipes[name].model_dump()) for name in members},
        strategy=strategy,
        chain=learned["chain"] if learned else chain,
        files={},
    )
    package = Package(to, contents)
    for network in package.networks:
        for fold in range(contents.folds):
            verify_outputs(run.model(network.name, fold))
            target = to / model_folder(network.name, fold)
            target.mkdir(parents=True)
            shutil.copyfile(run.model(network.name, fold) / WEIGHTS, target / WEIGHTS)
    if strategy is not None:
        verify_outputs(run.fusion(source) / FITTED)
        (to / FUSION).mkdir()
        for name in (fitted.STATE, fitted.ARRAYS):
            shutil.copyfile(run.fusion(source) / FITTED / name, to / FUSION / name)
    (to / README).write_text(readme(contents), encoding="utf-8")
    files = {path: digest(to / path) for path in package.expected()}
    package = Package(to, contents.model_copy(update={"files": files}))
    write_json(to / CONTENTS, package.contents.model_dump(mode="json"))
    return package


def _try_out(run: Run, package: Package, device: str, log: Log) -> None:
    """Label a block of a split that the run has labelled, and compare pixel by pixel."""
    candidate = package.contents.candidate
    split = next((s for s in run.splits() if s != OOF and run.labels(candidate, s).is_dir()), None)
    if split is None:
        log(f"{candidate} has labels of {OOF} alone, so the package could not be tried")
        return
    first = DataSet.load(run.data(split)).take(slice(0, BLOCK_IMAGES))
    labels = np.concatenate([labels for _, labels in label(package, first, device)])
    changed = (labels != read_labels(run, candidate, split)[: len(labels)]).mean()
    if changed:
        log(
            f"warning: {changed:.4%} of the pixels of {len(labels)} images of {split} differ from"
            " the run's, as they may on another kind of device"
        )
    else:
        log(f"tried on {len(labels)} images of {split}: every pixel as in the run")
