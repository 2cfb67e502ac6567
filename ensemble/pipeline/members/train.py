"""Train what is missing or stale, then predict what is missing or stale."""

import shutil
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from ensemble.pipeline.candidates.fuse import resolve_fusion, update_fusion
from ensemble.pipeline.data.prepare import (
    prepare,
    run_classes,
)
from ensemble.pipeline.members.jobs import (
    job_is_current,
    run_and_report,
    training_job,
)
from ensemble.pipeline.members.networks import register_networks
from ensemble.pipeline.members.predict import predict_members
from ensemble.pipeline.members.teaching import (
    Teacher,
    base_members,
    check_students,
    in_order,
    network_folds,
    prepare_nested,
    prepare_unlabelled,
    teachers,
)
from ensemble.pipeline.run.experiment import Experiment, check_chains
from ensemble.pipeline.run.open_run import (
    RunMembers,
    check_metric_defined,
    imported_members,
)
from ensemble.pipeline.run.store_location import store_urls
from evaluation.core.errors import BadData, BadRun, EnsError
from evaluation.core.files import partial_name
from evaluation.core.progress import Log
from evaluation.core.provenance import (
    find_corruption,
)
from evaluation.core.run_folder import OOF, Run, run_lock
from evaluation.run_metric import metric_note, named_metric
from members.augmentations.augment import check_depth
from members.batches import class_shares
from members.codecs import StoreDtype, codec
from members.data.dataset import DataSet
from members.devices import devices
from members.jobs import TrainJob
from members.network import check_size
from members.recipe import Member, is_student
from members.resizing import resized_extent
from members.train import Fold
from members.trainers.distill import distillation_of


def train_members(
    run: Run,
    experiment: Experiment,
    *,
    only: Sequence[str] = (),
    device: str = "auto",
    workers: int | None = None,
    log: Log,
) -> list[Member]:
    """Train the experiment's members in every fold and predict every split.

    What exists and is current is kept, so that an interrupted run resumes where it stopped.

    Args:
        run: the experiment folder; created.
        experiment: data, folds, recipes.
        only: names of members or families to which the work is restricted.
        device: see `members.devices.devices`.
        workers: processes on each device.
        log: receives a line per decision and per job that ended.

    Returns:
        The selected members.

    Raises:
        EnsError: bad input before any work, or the members that failed, after the others ended.
    """
    device_names = devices(device)
    for recipe in experiment.recipes().values():
        recipe.check()
    with run_lock(run.path):
        members = _prepare_members(run, experiment, only, log)
        networks = register_networks(run, experiment, log, only=only)
        work = _Work(device_names, workers, log)
        base = [member for member in members if not is_student(member.recipe)]
        _train_and_predict(run, experiment, base, work, networks=networks)
        students = [member for member in members if is_student(member.recipe)]
        for student in in_order(experiment, students):
            _teach(run, experiment, student, work)
    return [*members, *networks]


@dataclass(frozen=True)
class _Work:
    """Where jobs run, and who is told."""

    devices: Sequence[str]
    workers: int | None
    log: Log


def _train_and_predict(
    run: Run,
    experiment: Experiment,
    members: Sequence[Member],
    work: _Work,
    teachers_of: Mapping[int, Teacher] | None = None,
    networks: Sequence[Member] = (),
) -> None:
    """Train members and predict all splits, as far as that is missing or stale.

    Args:
        run: the experiment folder.
        experiment: of it.
        members: all of them students, or none.
        work: where it is done.
        teachers_of: the teacher of the student of each fold.
        networks: from elsewhere, which are only to predict.

    Raises:
        EnsError: the members that failed, after the others ended.
    """
    log = work.log
    jobs = [
        training_job(run, experiment, m, fold) for m in members for fold in network_folds(run, m)
    ]
    stale = [job for job in jobs if not job_is_current(job)]
    for job in stale:
        if (corruption := find_corruption(job.folder)) is not None:
            log(f"{corruption}; {job.name} is trained again")
    with store_urls(run, experiment.store) as new_url, ExitStack() as stack:
        if teachers_of is not None and stale:
            folder = partial_name(run.path / "soft_targets")  # the next run removes what is left
            stack.callback(shutil.rmtree, folder, ignore_errors=True)
            folder.mkdir()
            stale = _with_soft_targets(stale, teachers_of, folder)
        failed = run_and_report(stale, work.devices, work.workers, "training", log)
        predict_members(
            run,
            [*(member for member in members if member.name not in failed), *networks],
            run.splits(),
            work.devices,
            dtype=experiment.store_dtype,
            new_url=new_url,
            workers=work.workers,
            log=log,
        )
    if failed:
        names = ",".join(sorted(failed))
        first = next(iter(failed.values()))
        raise EnsError(f"{first}; the others are done; retry with --only {names}")


def _teach(run: Run, experiment: Experiment, student: Member, work: _Work) -> None:
    """Bring the teachers of a student up to date, then train it."""
    options = distillation_of(student.recipe)
    assert options is not None  # it is a student
    folds = network_folds(run, student)
    if options.nested:
        for fold in folds:
            inner, nested, networks = prepare_nested(run, experiment, options, fold)
            work.log(f"{student.name}: its teachers are trained without fold {fold.index}")
            _train_and_predict(inner, nested, networks, work)
            _update_teacher(inner, nested, options.teacher, work)
    else:
        _update_teacher(run, experiment, options.teacher, work)
    taught = teachers(run, experiment, student, folds)
    by_fold = {fold.index: teacher for fold, teacher in zip(folds, taught, strict=True)}
    _train_and_predict(run, experiment, [student], work, by_fold)


def _update_teacher(run: Run, experiment: Experiment, teacher: str, work: _Work) -> None:
    """Predict what a teacher lacks of the run's splits, and fuse it."""
    run_members = RunMembers.of(run)
    base = base_members(run_members, teacher)
    known = [*run_members.members, *run_members.networks]
    networks = [m for m in known if (m.family or m.name) in base]
    with store_urls(run, experiment.store) as new_url:
        predict_members(
            run,
            networks,
            run.splits(),
            work.devices,
            dtype=experiment.store_dtype,
            new_url=new_url,
            workers=work.workers,
            log=work.log,
        )
    _fuse(run, experiment, teacher, work.log)


def _fuse(run: Run, experiment: Experiment, name: str, log: Log) -> None:
    """Bring a fusion up to date, after the fusions that it is made of."""
    run_members = RunMembers.of(run)
    if name in run_members.names():
        return
    spec = resolve_fusion(experiment, run_members, name)
    for member in spec.members:
        _fuse(run, experiment, member, log)
    update_fusion(RunMembers.of(run), spec, log)


def _with_soft_targets(
    jobs: Sequence[TrainJob], teachers_of: Mapping[int, Teacher], folder: Path
) -> list[TrainJob]:
    """Write the soft targets that students learn from, once for each teacher."""
    written: dict[Teacher, Path] = {}
    taught = []
    for job in jobs:
        teacher = teachers_of[job.fold.index]
        if teacher not in written:
            written[teacher] = folder / str(len(written))
            written[teacher].mkdir()
            teacher.write(written[teacher])
        job = replace(
            job,
            soft_targets=written[teacher],
            unlabelled=None if teacher.unlabelled is None else teacher.run.data(teacher.unlabelled),
        )
        if teacher.options.nested:  # its run holds the images outside the fold alone
            everything = np.arange(len(job.fold.training))
            fold = Fold(job.fold.index, everything)
            job = replace(job, data=teacher.run.data(OOF), fold=fold)
        taught.append(job)
    return taught


def _prepare_members(
    run: Run, experiment: Experiment, only: Sequence[str], log: Log
) -> list[Member]:
    """Write data and experiment once nothing can be refused any more; return the members."""
    decisions: list[str] = []  # logged after the checks: a refusal is one line
    prepare(run, experiment, decisions.append)
    classes, training = run_classes(run), DataSet.load(run.data(OOF))
    check_chains(experiment, classes, training.images)
    decisions += _check_metric(run, experiment)
    members = _select(experiment.expanded(classes), only, list(experiment.networks))
    check_not_imported(run, members)
    check_trainable(members, training, experiment.store_dtype)
    check_students(run, experiment, members)
    if any(is_student(member.recipe) for member in members):
        prepare_unlabelled(run, experiment)
    for line in decisions:
        log(line)
    experiment.resolved().write(run.experiment)
    return members


def _check_metric(run: Run, experiment: Experiment) -> list[str]:
    """Check that the training images have what the metric measures; return what is to be said.

    Raises:
        BadSpec: it names a class that the data have not.
        BadData: it is undefined on the training images.
    """
    classes = run_classes(run)
    metric = named_metric(experiment.metric, classes)
    for split in (OOF, "validation"):
        check_metric_defined(run, metric, split)
    note = metric_note(metric, classes)
    return [note] if note else []


def check_not_imported(run: Run, members: Sequence[Member]) -> None:
    """Refuse to train a member whose name imported maps have, which would be overwritten.

    Raises:
        BadRun: there is one.
    """
    names = {name for member in members for name in (member.name, member.family) if name}
    taken = names & set(imported_members(run))
    if taken:
        raise BadRun(
            f"member {min(taken)!r} was imported into {run.path}; give the network another name"
        )


def check_trainable(members: Sequence[Member], training: DataSet, dtype: StoreDtype) -> None:
    """Refuse what would fail after hours: images too small or of another type, absent classes.

    Args:
        members: to be trained.
        training: the images.
        dtype: how their maps will be kept.

    Raises:
        BadData: the first of them.
        BadSpec: maps that cannot be kept like that.
    """
    shares = class_shares(training.target(), len(training.classes))
    for member in members:
        codec(dtype).check_classes(1 if member.label is not None else len(training.classes))
        extent = resized_extent(training.extent, member.recipe.size)
        check_size(member.recipe.architecture, extent)
        check_depth(member.recipe.augment, str(training.images.dtype))
        if member.label not in (None, training.classes.ignore) and shares[member.label] == 0:
            raise BadData(
                f"member {member.name!r}: no training image holds class"
                f" {training.classes.names[member.label]!r}; specialists need a pixel of every"
                " class: leave them out, or name the classes that exist"
            )


def _select(members: list[Member], only: Sequence[str], networks: Sequence[str]) -> list[Member]:
    known = {member.name for member in members} | {m.family for m in members if m.family}
    known |= set(networks)
    for name in only:
        if name not in known:
            raise BadRun(f"no member {name!r}; known: {', '.join(sorted(known))}")
    return [m for m in members if not only or m.name in only or m.family in only]
