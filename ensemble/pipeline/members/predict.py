"""Write maps of members, and of networks from elsewhere: of new images and of a run's splits."""

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType

from ensemble.pipeline.data.prepare import (
    check_same_kind,
    check_same_split,
    make_ids_unique,
    run_classes,
)
from ensemble.pipeline.members.jobs import (
    has_all_weights,
    job_is_current,
    prediction_job,
    run_and_report,
)
from ensemble.pipeline.members.networks import register_networks
from ensemble.pipeline.members.teaching import (
    network_folds,
    predicted_splits,
    taught_by,
)
from ensemble.pipeline.run.experiment import read_experiment
from ensemble.pipeline.run.open_run import (
    run_experiment,
)
from ensemble.pipeline.run.store_location import UrlFactory, local_only, store_urls
from evaluation.core.errors import BadRun, EnsError
from evaluation.core.files import remove_folder
from evaluation.core.label_options import NOTHING_SAID, LabelOptions
from evaluation.core.progress import Log
from evaluation.core.provenance import (
    RECORD,
)
from evaluation.core.run_folder import OOF, Run, run_lock
from members.codecs import StoreDtype
from members.data.dataset import DataSet
from members.data.layouts import DEFAULT_LAYOUT, LayoutOptions
from members.data.load_dataset import load_dataset, one_set
from members.devices import devices
from members.external_networks.description import NetworkDescription
from members.jobs import Job
from members.recipe import Member, check_name, is_student
from members.train import Fold

NO_NETWORKS: Mapping[str, NetworkDescription] = MappingProxyType({})


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
            m
            for m in experiment.expanded(classes)
            if has_all_weights(run, m, network_folds(run, m))
        ]
        if not trained and not experiment.networks:
            raise BadRun(f"no member of {run.path} is trained; run `ens train-members` first")
        if is_known := run.data(split).exists():
            check_same_split(DataSet.load(run.data(split)), images, split)
        trained += register_networks(run, experiment, log)
        if not is_known:
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
            job = prediction_job(run, member, split, own_folds, dtype)
            if job_is_current(job):
                continue
            if (job.folder / RECORD).exists():
                log(f"{member.name} {split}: its maps are stale and are made again")
                shutil.rmtree(job.folder)
            if is_student(member.recipe):
                taught = taught_by(run, run_experiment(run), member, own_folds)
                job = replace(job, taught_by=taught)
            jobs.append(replace(job, at=new_url(f"{member.name}-{split}")))
    failed = run_and_report(jobs, device_names, workers, "predicting", log)
    if failed:
        raise EnsError(next(iter(failed.values())))
