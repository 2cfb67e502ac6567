"""Import the cross-validation maps of nnU-Net's trained folders as members of a run."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ensemble.pipeline.data.prepare import prepare_folds
from ensemble.pipeline.members.importing import (
    Document,
    GivenMaps,
    ImportOptions,
    Log,
    check_name_is_free,
    import_given,
)
from ensemble.pipeline.run.experiment import Experiment, resolve_data_path
from ensemble.pipeline.run.open_run import RunMembers, run_experiment
from evaluation.core.errors import BadMaps, BadRun, check_distinct, format_count
from evaluation.core.run_folder import Run, run_lock
from members.data.dataset import DataSet
from members.external.nnunet_results import NnunetResults, read_results
from members.object_store import check_url
from members.recipe import check_name
from members.store_metadata import TrainingIds

NNUNET = "nnunet"
"""Key of a store's record: the trained folder that its maps come from."""


def import_nnunet(
    run: Run,
    folders: Sequence[Path],
    *,
    name: str | None = None,
    data: str | None = None,
    store: str | None = None,
    options: ImportOptions,
    log: Log,
) -> list[Document]:
    """Write the cross-validation maps of trained folders as stores, one member each.

    Every image was predicted by the one fold that did not train on its case, and the store says
    which: `oof` and, in a run that has set some of the cases aside, `validation` are held out.

    Args:
        run: the experiment folder; with `data` a new one, whose folds are those of the first
            folder, and whose labelled images are all out-of-fold images.
        folders: see `members.external.nnunet_results.read_results`.
        name: of the member, for one folder; by default the configuration, such as `3d_fullres`.
        data: nnU-Net's raw data set, whose cases the networks were trained on.
        store: a URL for the maps of a new run.
        options: how maps are taken.
        log: receives a line per decision.

    Returns:
        A JSON document per member and split.

    Raises:
        BadMaps: no trained folder, or maps with problems; nothing of that member is written.
        BadRun: no images, or a name that is taken.
    """
    results = [read_results(folder) for folder in folders]
    names = [check_name(name or one.configuration, "member") for one in results]
    if name is not None and len(results) > 1:
        raise BadRun(f"--name {name} is for one trained folder; {len(results)} are given")
    check_distinct("member", names)
    with run_lock(run.path):
        if data is not None:
            _create_run(run, results[0], data, store, log)
        if not run.experiment.is_file():
            raise BadRun(f"{run.path} holds no images; create it with --data, nnU-Net's raw set")
        run_members = RunMembers.of(run)
        for member in names:
            check_name_is_free(run_members, member)
        documents = []
        for member, one in zip(names, results, strict=True):
            log(
                f"{member}: {format_count(len(one.files), 'case')} in"
                f" {format_count(len(one.folds), 'fold')} of {one.folder.name}"
            )
            splits = _splits_of(run, one)
            if not splits:
                first = DataSet.load(run.data("oof")).ids[0]
                raise BadMaps(
                    f"member {member!r}: {one.folder} has maps of none of the run's images (its"
                    f" cases: {min(one.files)!r}, ...; the run's images: {first!r}, ...)"
                )
            for split in splits:
                given = _given(run, one, split)
                chosen = _with_names(options, one)
                documents.append(import_given(run_members, member, split, given, chosen, log))
    return documents


def _create_run(run: Run, results: NnunetResults, data: str, store: str | None, log: Log) -> None:
    """Write a run's data and folds, unless it holds just these.

    Raises:
        BadRun: the run holds other data.
    """
    experiment = run_experiment(run) if run.experiment.is_file() else Experiment()
    given: dict[str, Any] = {"data": resolve_data_path(data), "folds": len(results.folds)}
    if store is not None:
        given["store"] = check_url(store)
    experiment = experiment.model_copy(update=given)
    number = {fold: index for index, fold in enumerate(results.folds)}

    def fold_of(name: str) -> int | None:
        ((at),) = results.slices_of([name])
        return None if at is None else number[results.fold_of[at[0]]]

    prepare_folds(run, experiment, fold_of, log)
    experiment.write(run.experiment)


def _splits_of(run: Run, results: NnunetResults) -> list[str]:
    """List the labelled splits that hold cases of the cross-validation."""
    return [
        split
        for split in run.splits()
        if any(results.slices_of(DataSet.load(run.data(split)).ids))
        and DataSet.load(run.data(split)).masks is not None
    ]


def _given(run: Run, results: NnunetResults, split: str) -> GivenMaps:
    """Open the maps of a split, with what each fold's model was trained on."""
    ids = DataSet.load(run.data(split)).ids
    maps = results.maps_of(ids)
    found = [at for at in results.slices_of(ids) if at is not None]
    number = {fold: index for index, fold in enumerate(results.folds)}
    model = tuple(number[results.fold_of[case]] for case, _ in found)
    paths = [results.files[case] for case in dict.fromkeys(case for case, _ in found)]
    source = {NNUNET: str(results.folder.resolve())}
    return GivenMaps(maps, paths, TrainingIds(_trained_on(run, results), model), source=source)


def _trained_on(run: Run, results: NnunetResults) -> tuple[frozenset[str], ...]:
    """Return the run's images that each fold was trained on: the cases of the other folds."""
    ids = [name for split in run.splits() for name in DataSet.load(run.data(split)).ids]
    pairs = zip(ids, results.slices_of(ids), strict=True)
    fold_of = {name: results.fold_of[at[0]] for name, at in pairs if at is not None}
    return tuple(
        frozenset(name for name, its_fold in fold_of.items() if its_fold != fold)
        for fold in results.folds
    )


def _with_names(options: ImportOptions, results: NnunetResults) -> ImportOptions:
    """Return the options with the classes that `dataset.json` names, in the maps' order."""
    return ImportOptions(
        options.class_names or results.classes.names,
        options.normalise,
        options.fix,
        options.no_checks,
        options.missing,
    )
