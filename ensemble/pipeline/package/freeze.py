"""Pack a candidate: weights, recipes, the fitted fusion and chain, class names, checksums."""

import shutil
import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np

import ensemble.fitted_json as fitted
from ensemble.pipeline.candidates.chains import read_fitted_chain
from ensemble.pipeline.candidates.fuse import FITTED, resolve_fusion, update_fusion
from ensemble.pipeline.candidates.postprocess import read_candidate, read_labels, update_candidate
from ensemble.pipeline.candidates.staleness import Artifact, Staleness, record_export
from ensemble.pipeline.data.prepare import read_folds, run_classes
from ensemble.pipeline.members.networks import external_description
from ensemble.pipeline.package.apply import predict_labels
from ensemble.pipeline.package.manifest import (
    FUSION,
    MANIFEST,
    README,
    Manifest,
    Package,
    model_folder,
    network_folder,
    readme,
)
from ensemble.pipeline.package.onnx_check import OnnxExamined, examine
from ensemble.pipeline.package.onnx_export import check_installed, check_steps, write_onnx
from ensemble.pipeline.run.open_run import RunMembers, run_experiment
from evaluation.core.blocks import blocks
from evaluation.core.errors import BadRun, BadSpec
from evaluation.core.files import atomic_file, atomic_folder, write_json
from evaluation.core.progress import Log
from evaluation.core.provenance import RECORD, digest, identity, verify_outputs
from evaluation.core.run_folder import OOF, Run, run_lock
from members.data.dataset import DataSet
from members.devices import devices
from members.recipe import Recipe
from members.train import WEIGHTS


def freeze(run: Run, candidate: str, out: Path, *, device: str, log: Log) -> Package:
    """Write a package, and compare its labels with those of the run.

    The candidate's fusion and labels are updated first if they are stale.

    Args:
        run: the experiment folder.
        candidate: name of the candidate.
        out: folder of the package; an older package there is replaced.
        device: device of the comparison; see `members.devices.devices`.
        log: receives a line for whatever was done.

    Raises:
        BadRun: no such candidate, one of imported maps or of a fusion of fusions, or a folder that
            exists and is not a package.
    """
    if out.exists() and not (out / MANIFEST).is_file() and (out.is_file() or any(out.iterdir())):
        raise BadRun(f"{out} already exists and is not a package; choose another --out")
    device = devices(device)[0]
    with run_lock(run.path):
        run_members = RunMembers.of(run)
        strategy, members = _update(run_members, candidate, log)
        with atomic_folder(out) as partial:
            package = _write_package(run_members, candidate, strategy, members, partial)
            _smoke_test(run, package, device, log)
        _record(run_members, candidate, out, log)
    return Package(out, package.manifest)


def freeze_onnx(run: Run, candidate: str, out: Path, *, log: Log) -> OnnxExamined:
    """Write a candidate as one ONNX file, and compare it with the run's labels and scores.

    The candidate's fusion and labels are updated first if they are stale.

    Args:
        run: the experiment folder.
        candidate: name of the candidate.
        out: the file, which is replaced.
        log: receives a line for whatever was done.

    Returns:
        What the comparison gave.

    Raises:
        BadRun: no such candidate, one of imported maps or of a fusion of fusions, or a network that
            cannot be traced.
        BadSpec: a part that a graph cannot hold, or the extra `onnx` is not installed.
    """
    check_installed()
    if out.suffix != ".onnx" or out.is_dir():
        raise BadSpec(f"--out {out} with --format onnx; expected a file that ends in .onnx")
    with run_lock(run.path):
        run_members = RunMembers.of(run)
        check_steps(read_candidate(run, candidate)[1])
        strategy, members = _update(run_members, candidate, log)
        with tempfile.TemporaryDirectory() as folder:
            package = _write_package(run_members, candidate, strategy, members, Path(folder))
            written = Path(folder) / "candidate.onnx"
            write_onnx(package, written)
            examined = examine(run, package, written)
            with atomic_file(out) as partial:  # only what has labelled images leaves the run
                shutil.copyfile(written, partial)
        _record(run_members, candidate, out, log)
    return replace(examined, path=out)


def _update(
    run_members: RunMembers, candidate: str, log: Log
) -> tuple[str | None, tuple[str, ...]]:
    """Update a candidate; return the strategy and the members of its fusion."""
    source, chain = read_candidate(run_members.run, candidate)
    strategy, members = _update_fusion(run_members, source, log)
    nested = sorted(set(members) - set(run_members.names()))
    if nested:
        raise BadRun(
            f"{candidate!r} fuses the fusion {nested[0]!r}, which a package cannot hold; freeze"
            " a candidate that fuses members"
        )
    imported = sorted(set(members) & set(run_members.imported))
    if imported:
        raise BadRun(
            f"{candidate!r} needs the imported maps of {', '.join(imported)}, which cannot be"
            " predicted for new images; freeze a candidate without them"
        )
    update_candidate(run_members, source, chain, name=candidate, log=log)
    return strategy, members


def _record(run_members: RunMembers, candidate: str, out: Path, log: Log) -> None:
    # Weights, fusion and chain depend on the out-of-fold labels and on no other images.
    run = run_members.run
    splits = [OOF, *run_members.splits(read_candidate(run, candidate)[0])]
    split = next((s for s in splits if identity(run.labels(candidate, s))), OOF)
    Staleness(run_members, run_experiment(run)).warn([Artifact("labels", candidate, split)], log)
    record_export(run, out, "package", candidate, split)


def _update_fusion(
    run_members: RunMembers, source: str, log: Log
) -> tuple[str | None, tuple[str, ...]]:
    """Update the fusion; return its strategy and members, or None and the single member."""
    if source in run_members.names():
        return None, (source,)
    spec = resolve_fusion(run_experiment(run_members.run), run_members, source)
    update_fusion(run_members, spec, log)
    return spec.strategy, spec.members


def _write_package(
    run_members: RunMembers,
    candidate: str,
    strategy: str | None,
    members: tuple[str, ...],
    to: Path,
) -> Package:
    run, experiment = run_members.run, run_experiment(run_members.run)
    source, chain = read_candidate(run, candidate)
    learned = read_fitted_chain(run, candidate)
    data = DataSet.load(run.data(OOF))
    recipes = experiment.recipes()
    # The file lies in the package, and network.json holds what it was trained on.
    networks = {
        member.name: said.model_copy(update={"file": said.path.name, "trained_on": None})
        for member in run_members.networks
        for said in [external_description(member)]
    }
    manifest = Manifest(
        candidate=candidate,
        classes=run_classes(run).to_dict(),
        channels=data.channels,
        image_type=str(data.images.dtype),
        shape=data.extent.runs[0][1],
        store_dtype=experiment.store_dtype,
        folds=len(read_folds(run)),
        members={
            name: networks[name] if name in networks else Recipe(**recipes[name].model_dump())
            for name in members
        },
        strategy=strategy,
        chain=learned["chain"] if learned else chain,
        files={},
    )
    package = Package(to, manifest)
    for network in package.networks:
        if network.network is not None:
            _copy_network(run.network(network.name), to / network_folder(network.name))
            continue
        for fold in range(manifest.folds):
            verify_outputs(run.model(network.name, fold))
            folder = to / model_folder(network.name, fold)
            folder.mkdir(parents=True)
            shutil.copyfile(run.model(network.name, fold) / WEIGHTS, folder / WEIGHTS)
    if strategy is not None:
        verify_outputs(run.fusion(source) / FITTED)
        (to / FUSION).mkdir()
        for name in (fitted.STATE, fitted.ARRAYS):
            shutil.copyfile(run.fusion(source) / FITTED / name, to / FUSION / name)
    (to / README).write_text(readme(manifest), encoding="utf-8")
    files = {path: digest(to / path) for path in package.expected_files()}
    for network in package.networks:
        folder = to / network_folder(network.name)
        copied = sorted(file for file in folder.rglob("*") if file.is_file())
        files |= {file.relative_to(to).as_posix(): digest(file) for file in copied}
    package = Package(to, manifest.model_copy(update={"files": files}))
    write_json(to / MANIFEST, package.manifest.model_dump(mode="json"))
    return package


def _copy_network(registered: Path, to: Path) -> None:
    """Copy a network from elsewhere with all that was registered of it, but its record."""
    verify_outputs(registered)
    shutil.copytree(registered, to, ignore=shutil.ignore_patterns(RECORD))


def _smoke_test(run: Run, package: Package, device: str, log: Log) -> None:
    """Label a block of a split that the run has labelled, and compare pixel by pixel."""
    candidate = package.manifest.candidate
    split = next((s for s in run.splits() if s != OOF and run.labels(candidate, s).is_dir()), None)
    if split is None:
        log(f"{candidate} has labels of {OOF} only, so the package could not be tested")
        return
    data = DataSet.load(run.data(split))
    first = data.take(blocks(data.extent)[0])
    labels = np.concatenate([labels for _, labels in predict_labels(package, first, device)])
    changed = (labels != read_labels(run, candidate, split)[: len(labels)]).mean()
    if changed:
        log(
            f"warning: {changed:.4%} of the pixels of {len(labels)} images of {split} differ from"
            " the run's labels; this can happen on another kind of device"
        )
    else:
        log(f"tested on {len(labels)} images of {split}: all pixels are as in the run")
