"""Train what is missing or stale, then predict what is missing or stale."""

import shutil
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from ensemble.pipeline.candidates.chains import check_chains
from ensemble.pipeline.data.prepare import (
    check_same_split,
    classes_identity,
    make_ids_unique,
    prepare,
    read_folds,
    run_classes,
    split_identity,
)
from ensemble.pipeline.run.experiment import Experiment, read_experiment
from ensemble.pipeline.run.open_run import imported_members
from ensemble.pipeline.run.store_location import Place, local_only, placing
from evaluation.core.errors import BadData, BadRun, EnsError
from evaluation.core.progress import progress
from evaluation.core.provenance import (
    RECORD,
    digest,
    find_corruption,
    identity,
    is_current,
    is_intact,
)
from evaluation.core.run_folder import Run, run_lock
from members.batches import class_shares
from members.data.dataset import DataSet
from members.data.load_dataset import load
from members.devices import devices
from members.jobs import (
    Job,
    PredictJob,
    TrainJob,
    run_jobs,
)
from members.network import check_size
from members.recipe import Member, check_name
from members.store_metadata import StoreDtype
from members.train import Fold


def train_members(
    run: Run,
    experiment: Experiment,
    *,
    only: Sequence[str] = (),
    device: str = "auto",
    workers: int | None = None,
    log: Callable[[str], None],
) -> list[Member]:
    """Train the experiment's members in every fold and predict every split.

    What is there and current is left alone, so an interrupted run goes on where it stood.

    Args:
        run: the experiment folder; created.
        experiment: data, folds, recipes.
        only: names of members or families to which the work is restricted.
        device: see `members.devices.devices`.
        workers: processes on each device.
        log: receives a line for whatever was decided or ended.

    Returns:
        The members that were asked for.

    Raises:
        EnsError: bad input before any work, or the members that failed, after the others ended.
    """
    where = devices(device)
    for recipe in experiment.recipes().values():
        recipe.check()
    with run_lock(run.path):
        # What was decided is told once nothing can be refused any more: a refusal is one line.
        decided: list[str] = []
        prepare(run, experiment, decided.append)
        check_chains(experiment, run_classes(run))
        members = _chosen(experiment.expanded(run_classes(run)), only)
        check_not_imported(run, members)
        check_trainable(members, DataSet.load(run.data("oof")))
        for line in decided:
            log(line)
        experiment.resolved().write(run.experiment)
        folds = read_folds(run)
        jobs = [training_job(run, experiment, m, fold) for m in members for fold in folds]
        jobs = [job for job in jobs if not weights_are_current(job)]
        for job in jobs:
            if (found := find_corruption(job.folder)) is not None:
                log(f"{found}; {job.name} is trained again")
        with placing(run, experiment.store) as place:
            failed = _conduct(jobs, where, workers, "training", log)
            healthy = [member for member in members if member.name not in failed]
            predict_members(
                run,
                healthy,
                run.splits(),
                where,
                dtype=experiment.store_dtype,
                place=place,
                workers=workers,
                log=log,
            )
    if failed:
        names = ",".join(sorted(failed))
        first = next(iter(failed.values()))
        raise EnsError(f"{first}; the others are done; retry with --only {names}")
    return members


def predict_data(
    run: Run,
    data: Path,
    split: str,
    *,
    size: tuple[int, int] | None,
    device: str,
    workers: int | None,
    log: Callable[[str], None],
) -> list[str]:
    """Add a set of images to a run and write every trained member's maps of it.

    Args:
        run: the experiment folder.
        data: file or folder of the images; masks are kept where there are any.
        split: what the set is called.
        size: rows and columns to resize to.
        device: see `members.devices.devices`.
        workers: processes on each device.
        log: receives a line for whatever ended.

    Returns:
        The names of the networks.

    Raises:
        BadData: images of another size, or a split of that name with other images or masks.
    """
    where, classes = devices(device), run_classes(run)
    check_name(split, "split")
    sets = load(data, classes=classes, size=size)
    found = sets.get("test", sets.get("training"))
    assert found is not None
    with run_lock(run.path):
        known = DataSet.load(run.data("oof"))
        if (found.channels, *found.shape) != (known.channels, *known.shape):
            met, expected = (f"{d.channels} x {d.shape[0]} x {d.shape[1]}" for d in (found, known))
            raise BadData(f"{data} has images of {met}; expected {expected}; see --size")
        found = make_ids_unique(found, known, split)
        experiment = read_experiment(run.experiment)
        members = experiment.expanded(classes)
        ready = [m for m in members if _whole(run, m)]
        if not ready:
            raise BadRun(f"no member of {run.path} is trained; run `ens train-members` first")
        if run.data(split).exists():
            check_same_split(DataSet.load(run.data(split)), found, split)
        else:
            found.save(run.data(split))
        with placing(run, experiment.store) as place:
            predict_members(
                run,
                ready,
                [split],
                where,
                dtype=experiment.store_dtype,
                place=place,
                workers=workers,
                log=log,
            )
    return [member.name for member in ready]


def _whole(run: Run, member: Member) -> bool:
    return all(identity(run.model(member.name, f.index)) for f in read_folds(run))


def predict_members(
    run: Run,
    members: Sequence[Member],
    splits: Sequence[str],
    where: Sequence[str],
    *,
    dtype: StoreDtype,
    workers: int | None,
    log: Callable[[str], None],
    folds: Sequence[Fold] | None = None,
    place: Place = local_only,
) -> None:
    """Write the maps of trained members that are missing or stale.

    Args:
        run: the experiment folder.
        members: whose maps.
        splits: of which images.
        where: devices.
        dtype: of the stores.
        workers: processes on each device.
        log: receives a line for whatever was decided or ended.
        folds: those whose models predict; by default all. `oof` needs them all.
        place: where arrays go; see `placing`.

    Raises:
        EnsError: what could not be predicted.
    """
    folds = tuple(folds or read_folds(run))
    jobs: list[Job] = []
    for member in members:
        for split in splits:
            job = _prediction(run, member, split, folds, dtype)
            if weights_are_current(job):
                continue
            if (job.folder / RECORD).exists():
                log(f"{member.name} {split}: its maps are stale and are made again")
                shutil.rmtree(job.folder)
            jobs.append(replace(job, at=place(f"{member.name}-{split}")))
    failed = _conduct(jobs, where, workers, "predicting", log)
    if failed:
        raise EnsError(next(iter(failed.values())))


def check_not_imported(run: Run, members: Sequence[Member]) -> None:
    """Refuse to train a member whose name foreign maps have, which would be overwritten.

    Raises:
        BadRun: there is one.
    """
    taken = set(imported_members(run)) & {m for one in members for m in (one.name, one.family)}
    if taken:
        raise BadRun(
            f"member {min(taken)!r} was imported into {run.path}; give the network another name"
        )


def check_trainable(members: Sequence[Member], training: DataSet) -> None:
    """Refuse what would fail after hours: images too small, specialists of an absent class.

    Raises:
        BadData: the first of them.
    """
    shares = class_shares(training.target(), len(training.classes))
    for member in members:
        check_size(member.recipe.architecture, *training.shape)
        if member.label not in (None, training.classes.ignore) and shares[member.label] == 0:
            raise BadData(
                f"member {member.name!r}: no training image holds class"
                f" {training.classes.names[member.label]!r}; specialists need a pixel of every"
                " class: leave them out, or name the classes that there are"
            )


def is_trained(run: Run, experiment: Experiment, member: Member, fold: Fold) -> bool:
    """Tell whether a member's fold is there and would come out the same today."""
    return weights_are_current(training_job(run, experiment, member, fold))


def weights_are_current(job: Job) -> bool:
    """Tell whether what a job writes is there, whole, and would come out the same today."""
    if is_current(job.folder, asked=job.asked, inputs=job.inputs):
        return is_intact(job.folder)
    if isinstance(job, TrainJob):
        return False
    # At first the records of maps named the target beside the images, as `data`.
    before = {key: value for key, value in job.inputs.items() if key != "images"}
    before["data"] = split_identity(Run(job.data.parents[1]), job.data.name)
    return is_current(job.folder, asked=job.asked, inputs=before)


def is_predicted(
    run: Run, member: Member, split: str, folds: tuple[Fold, ...], dtype: StoreDtype
) -> bool:
    """Tell whether a member's maps are there and would come out the same today."""
    if any(identity(run.model(member.name, fold.index)) is None for fold in folds):
        return False
    job = _prediction(run, member, split, folds, dtype)
    return weights_are_current(job)


def training_job(run: Run, experiment: Experiment, member: Member, fold: Fold) -> TrainJob:
    """Say what trains a member in a fold of a run, and what of."""
    inputs = {
        "data": split_identity(run, "oof"),
        "folds": digest(run.folds),
        "classes": classes_identity(run, names=False),
    }
    folder = run.model(member.name, fold.index)
    asked = {**member.asked(), "fold": fold.index, "seed": experiment.seed}
    return TrainJob(member, run.data("oof"), fold, experiment.seed, folder, asked, inputs)


def _prediction(
    run: Run, member: Member, split: str, folds: tuple[Fold, ...], dtype: StoreDtype
) -> PredictJob:
    models = tuple(run.model(member.name, fold.index) for fold in folds)
    inputs = {
        "images": split_identity(run, split, target=False),
        "classes": classes_identity(run),
    }
    for fold, model in zip(folds, models, strict=True):
        found = identity(model)
        if found is None:
            raise BadRun(
                f"member {member.name!r} lacks fold {fold.index};"
                f" run `ens train-members --run {run.path} --only {member.name}`"
            )
        inputs[f"fold-{fold.index}"] = found
    asked = {**member.asked_of_maps(), "split": split, "dtype": dtype}
    folder = run.probabilities(member.name, split)
    return PredictJob(
        member,
        run.data(split),
        run.data("oof"),
        folds,
        models,
        split == "oof",
        folder,
        dtype,
        asked,
        inputs,
    )


def _conduct(
    jobs: Sequence[Job],
    where: Sequence[str],
    workers: int | None,
    what: str,
    log: Callable[[str], None],
) -> dict[str, str]:
    """Run the jobs; return what failed, by member."""
    failed: dict[str, str] = {}
    for job, error in progress(run_jobs(jobs, where, workers=workers), what, total=len(jobs)):
        if error is None:
            log(f"{what}: {job.name} done")
        else:
            log(f"{what}: {job.name} failed: {error}")
            failed.setdefault(job.name.split()[0], str(error))
    return failed


def _chosen(members: list[Member], only: Sequence[str]) -> list[Member]:
    known = {member.name for member in members} | {m.family for m in members if m.family}
    for name in only:
        if name not in known:
            raise BadRun(f"no member {name!r}; known: {', '.join(sorted(known))}")
    return [m for m in members if not only or m.name in only or m.family in only]
