"""Train what is missing or stale, then predict what is missing or stale."""

import shutil
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType

import numpy as np

from ensemble.pipeline.candidates.fuse import resolve_fusion, update_fusion
from ensemble.pipeline.data.prepare import (
    check_same_kind,
    check_same_split,
    classes_identity,
    make_ids_unique,
    prepare,
    run_classes,
    split_identity,
)
from ensemble.pipeline.members.networks import register_networks
from ensemble.pipeline.members.teaching import (
    Teacher,
    base_members,
    check_students,
    in_order,
    network_folds,
    predicted_splits,
    prepare_nested,
    prepare_unlabelled,
    taught_by,
    teachers,
)
from ensemble.pipeline.run.experiment import Experiment, check_chains, read_experiment
from ensemble.pipeline.run.open_run import (
    RunMembers,
    check_metric_defined,
    imported_members,
    run_experiment,
)
from ensemble.pipeline.run.store_location import UrlFactory, local_only, store_urls
from evaluation.core.errors import BadData, BadRun, EnsError
from evaluation.core.files import partial_name, remove_folder
from evaluation.core.label_options import NOTHING_SAID, LabelOptions
from evaluation.core.progress import Log, progress
from evaluation.core.provenance import (
    RECORD,
    digest,
    find_corruption,
    identity,
    is_current,
    is_intact,
)
from evaluation.core.run_folder import OOF, Run, run_lock
from evaluation.run_metric import MASKED, metric_config, metric_note, named_metric
from members.augmentations.augment import check_depth
from members.batches import class_shares
from members.codecs import StoreDtype, codec
from members.data.dataset import DataSet
from members.data.layouts import DEFAULT_LAYOUT, LayoutOptions
from members.data.load_dataset import load_dataset, one_set
from members.devices import devices
from members.external_networks.description import NetworkDescription
from members.jobs import Job, PredictJob, TrainJob, run_jobs
from members.network import check_size
from members.recipe import Member, check_name, is_student
from members.resizing import resized_extent
from members.train import Fold
from members.trainers.distill import distillation_of
from members.training_progress import show_trainings

NO_NETWORKS: Mapping[str, NetworkDescription] = MappingProxyType({})


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
    stale = [job for job in jobs if not weights_are_current(job)]
    for job in stale:
        if (corruption := find_corruption(job.folder)) is not None:
            log(f"{corruption}; {job.name} is trained again")
    with store_urls(run, experiment.store) as new_url, ExitStack() as stack:
        if teachers_of is not None and stale:
            folder = partial_name(run.path / "soft_targets")  # the next run removes what is left
            stack.callback(shutil.rmtree, folder, ignore_errors=True)
            folder.mkdir()
            stale = _with_soft_targets(stale, teachers_of, folder)
        failed = _run_jobs(stale, work.devices, work.workers, "training", log)
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


def predict_data(
    run: Run,
    data: Path,
    split: str,
    *,
    networks: Mapping[str, NetworkDescription] = NO_NETWORKS,
    labels: LabelOptions = NOTHING_SAID,
    layout: LayoutOptions = DEFAULT_LAYOUT,
    device: str,
    workers: int | None,
    log: Log,
) -> list[str]:
    """Add a set of images to a run and write every trained member's maps of it.

    Args:
        run: the experiment folder.
        data: file or folder of the images; masks are kept where there are any.
        split: name of the set.
        networks: that were trained elsewhere, to be added to the run; they predict every split.
        labels: what is said about classes and values of masks; must agree with the run's.
        layout: what is said about how the data lie on disk.
        device: see `members.devices.devices`.
        workers: processes on each device.
        log: receives a line per job that ended.

    Returns:
        The names of the networks.

    Raises:
        BadData: images of another kind, or a split of that name with other images or masks.
    """
    device_names, classes = devices(device), run_classes(run)
    check_name(split, "split")
    sets = load_dataset(data, labels=labels, contract=classes, layout=layout)
    images = one_set(sets, str(data))
    with run_lock(run.path):
        known = DataSet.load(run.data(OOF))
        check_same_kind(images, known, str(data))
        images = make_ids_unique(images, known, split)
        experiment = read_experiment(run.experiment)
        experiment = experiment.with_networks(networks)
        trained = [
            m for m in experiment.expanded(classes) if _is_complete(run, m, network_folds(run, m))
        ]
        if not trained and not experiment.networks:
            raise BadRun(f"no member of {run.path} is trained; run `ens train-members` first")
        trained += register_networks(run, experiment, log)
        if run.data(split).exists():
            check_same_split(DataSet.load(run.data(split)), images, split)
        else:
            images.save(run.data(split))
        experiment.write(run.experiment)
        with store_urls(run, experiment.store) as new_url:
            predict_members(
                run,
                trained,
                [split],
                device_names,
                dtype=experiment.store_dtype,
                new_url=new_url,
                workers=workers,
                log=log,
            )
    return [member.name for member in trained]


def predict_networks(
    run: Run,
    networks: Mapping[str, NetworkDescription],
    *,
    device: str,
    workers: int | None,
    log: Log,
) -> list[str]:
    """Add networks that were trained elsewhere to a run, and write their maps of every split.

    Args:
        run: the experiment folder, which holds its images.
        networks: what is said about each, by the name of its member.
        device: see `members.devices.devices`.
        workers: processes on each device.
        log: receives what was read and inferred, and a line per job that ended.

    Returns:
        The names of the networks.

    Raises:
        BadNetwork: one that cannot be used, or whose description leaves readings open.
        BadRun: the run holds no images, or has a member of that name.
    """
    device_names = devices(device)
    if not run.experiment.is_file():
        raise BadRun(f"{run.path} holds no experiment; start with `ens train-members`")
    with run_lock(run.path):
        experiment = read_experiment(run.experiment).with_networks(networks)
        new = [name for name in networks if not run.network(name).exists()]
        members = register_networks(run, experiment, log, only=list(networks))
        try:
            with store_urls(run, experiment.store) as new_url:
                predict_members(
                    run,
                    members,
                    run.splits(),
                    device_names,
                    dtype=experiment.store_dtype,
                    new_url=new_url,
                    workers=workers,
                    log=log,
                )
        except EnsError:  # on an image that was not examined
            for name in new:
                remove_folder(run.network(name).parent)
                remove_folder(run.path / "probabilities" / name)
            raise
        experiment.write(run.experiment)
    return [member.name for member in members]


def predict_members(
    run: Run,
    members: Sequence[Member],
    splits: Sequence[str],
    device_names: Sequence[str],
    *,
    dtype: StoreDtype,
    workers: int | None,
    log: Log,
    folds: Sequence[Fold] | None = None,
    new_url: UrlFactory = local_only,
) -> None:
    """Write the maps of trained members that are missing or stale.

    The models of all folds predict, or of those given; `oof` needs them all, and networks of all
    folds have none of it.

    Raises:
        EnsError: what could not be predicted.
    """
    jobs: list[Job] = []
    for member in members:
        own_folds = tuple(folds or network_folds(run, member))
        for split in splits:
            if split not in predicted_splits(run, member):
                continue
            job = _prediction_job(run, member, split, own_folds, dtype)
            if weights_are_current(job):
                continue
            if (job.folder / RECORD).exists():
                log(f"{member.name} {split}: its maps are stale and are made again")
                shutil.rmtree(job.folder)
            if is_student(member.recipe):
                taught = taught_by(run, run_experiment(run), member, own_folds)
                job = replace(job, taught_by=taught)
            jobs.append(replace(job, at=new_url(f"{member.name}-{split}")))
    failed = _run_jobs(jobs, device_names, workers, "predicting", log)
    if failed:
        raise EnsError(next(iter(failed.values())))


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


def is_trained(run: Run, experiment: Experiment, member: Member, fold: Fold) -> bool:
    """Tell whether a member's fold exists and would come out the same today."""
    return weights_are_current(training_job(run, experiment, member, fold))


def is_predicted(
    run: Run,
    member: Member,
    split: str,
    dtype: StoreDtype,
    folds: tuple[Fold, ...] | None = None,
) -> bool:
    """Tell whether a member's maps exist, by the models of these folds, and are current."""
    folds = folds or network_folds(run, member)
    if not _is_complete(run, member, folds):
        return False
    return weights_are_current(_prediction_job(run, member, split, folds, dtype))


def weights_are_current(job: Job) -> bool:
    """Tell whether what a job writes exists, is whole, and would come out the same today."""
    if is_current(job.folder, config=job.config, inputs=job.inputs):
        return is_intact(job.folder)
    if isinstance(job, TrainJob):
        return False
    # At first the records of maps named the target with the images, as `data`.
    before = {key: value for key, value in job.inputs.items() if key != "images"}
    before["data"] = split_identity(Run(job.data.parents[1]), job.data.name)
    return is_current(job.folder, config=job.config, inputs=before)


def training_job(run: Run, experiment: Experiment, member: Member, fold: Fold) -> TrainJob:
    """Return the job that trains a member in a fold of a run, with its inputs."""
    inputs = {
        "data": split_identity(run, OOF),
        "folds": digest(run.folds),
        "classes": classes_identity(run, names=False),
    }
    if is_student(member.recipe):
        (teacher,) = teachers(run, experiment, member, [fold])
        inputs |= teacher.input_digests()
    folder = run.model(member.name, fold.index)
    # A specialist is stopped by the mean IoU of its class and the rest, whatever the metric.
    metric = MASKED
    if member.label is None:
        metric = named_metric(experiment.metric, run_classes(run))
    config = {
        **member.training_config(),
        "fold": fold.index,
        "seed": experiment.seed,
        **metric_config(metric),
    }
    return TrainJob(member, run.data(OOF), fold, experiment.seed, folder, config, inputs, metric)


def _prediction_job(
    run: Run, member: Member, split: str, folds: tuple[Fold, ...], dtype: StoreDtype
) -> PredictJob:
    models = _models_of(run, member, folds)
    inputs = {
        "images": split_identity(run, split, target=False),
        "classes": classes_identity(run),
    }
    for model in models:
        weights = identity(model)
        if weights is None:
            raise BadRun(
                f"member {member.name!r} lacks {model.name};"
                f" run `ens train-members --run {run.path} --only {member.name}`"
            )
        inputs[model.name] = weights
    return PredictJob(
        member,
        data=run.data(split),
        training=run.data(OOF),
        folds=folds,
        models=models,
        out_of_fold=split == OOF,
        folder=run.probabilities(member.name, split),
        dtype=dtype,
        config={**member.prediction_config(), "split": split, "dtype": dtype},
        inputs=inputs,
    )


def _models_of(run: Run, member: Member, folds: Sequence[Fold]) -> tuple[Path, ...]:
    """Return the folder of each fold's weights, or of the one network from elsewhere."""
    if member.network is not None:
        return (run.network(member.name),)
    return tuple(run.model(member.name, fold.index) for fold in folds)


def _is_complete(run: Run, member: Member, folds: Sequence[Fold]) -> bool:
    """Tell whether a member has weights of every fold."""
    return all(identity(model) for model in _models_of(run, member, folds))


def _run_jobs(
    jobs: Sequence[Job],
    device_names: Sequence[str],
    workers: int | None,
    what: str,
    log: Log,
) -> dict[str, str]:
    """Run jobs; return the error of each member that failed, by name."""
    failed: dict[str, str] = {}
    ended = run_jobs(jobs, device_names, workers=workers)
    trainings = [job for job in jobs if isinstance(job, TrainJob)]
    shown = show_trainings(ended, trainings) if trainings else progress(ended, what, len(jobs))
    for job, error in shown:
        if error is None:
            log(f"{what}: {job.name} done")
        else:
            log(f"{what}: {job.name} failed: {error}")
            failed.setdefault(job.name.split()[0], str(error))
    return failed


def _select(members: list[Member], only: Sequence[str], networks: Sequence[str]) -> list[Member]:
    known = {member.name for member in members} | {m.family for m in members if m.family}
    known |= set(networks)
    for name in only:
        if name not in known:
            raise BadRun(f"no member {name!r}; known: {', '.join(sorted(known))}")
    return [m for m in members if not only or m.name in only or m.family in only]
