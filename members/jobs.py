"""Jobs (trainings, predictions) run in parallel: by local processes or on a Dask cluster.

A job is a picklable callable that takes the name of its device. `run_parallel` yields each job with
its outcome: what it returned, or the `EnsError` that ended it. One that kills its process does not
stop the others (`members.worker_pool`).
"""

import functools
import os
import sys
import threading
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from evaluation.core.cluster import Cluster, ClusterTask, WorkerDied, current_cluster
from evaluation.core.files import atomic_folder, remove_folder
from evaluation.core.function_pickle import pack
from evaluation.core.provenance import RECORD, digest, is_current, record
from evaluation.run_metric import MASKED
from members.codecs import StoreDtype
from members.data.dataset import DataSet
from members.devices import DeviceFailed
from members.external_networks.network import read_reading
from members.job_progress import ProgressFile
from members.predict import predict_split, training_ids
from members.recipe import Member
from members.soft_targets import SoftTargets
from members.store_metadata import TrainingIds
from members.train import WEIGHTS, Fold, training_of_fold
from members.worker_pool import AnyJob, outcome_of, run_in_pool

JOBS_PER_GPU = 4
"""Trainings that take turns on a GPU by default."""

STARTED = "begun"
"""Part of a store's record while it is written: the inputs of the blocks that exist already."""


@dataclass(frozen=True, eq=False)
class TrainJob:
    """Train one member in one fold; leaves the complete folder or none."""

    member: Member
    data: Path
    fold: Fold
    seed: int
    folder: Path
    config: dict[str, Any]
    inputs: dict[str, str]
    metric: str = MASKED
    soft_targets: Path | None = None
    unlabelled: Path | None = None

    @property
    def name(self) -> str:
        """Member and fold."""
        return f"{self.member.name} fold {self.fold.index}"

    def __call__(self, device: str) -> None:
        """Write the fold's folder."""
        for _ in self.steps(device):
            pass

    def steps(self, device: str) -> Generator[None, None, None]:
        """Write the fold's folder, training by a step with each `next`."""
        data = DataSet.load(self.data)
        soft_targets = None
        if self.soft_targets is not None:
            others = None if self.unlabelled is None else DataSet.load(self.unlabelled)
            soft_targets = SoftTargets.open(self.soft_targets, data, others)
        with (
            atomic_folder(self.folder) as partial,
            ProgressFile(self.folder).writing() as progress,
        ):
            yield from training_of_fold(
                self.member,
                data,
                self.fold,
                seed=self.seed,
                device=device,
                folder=partial,
                metric=self.metric,
                soft_targets=soft_targets,
                watch=progress.write,
            )
            outputs = {WEIGHTS: digest(partial / WEIGHTS)}
            record(partial, config=self.config, inputs=self.inputs, outputs=outputs)


@dataclass(frozen=True)
class Taught:
    """The images that the teachers of a student were trained on.

    Args:
        ids: of them, for the student of each fold.
        declared: whether every teacher says what it was trained on.
    """

    ids: tuple[frozenset[str], ...]
    declared: bool

    def seen(self, own: TrainingIds, training: DataSet, *, out_of_fold: bool) -> TrainingIds | None:
        """Return the images behind a student's maps: its own, and all that its teachers saw.

        Teachers that do not declare them may have seen any: the student counts as trained on all
        training images, and is undeclared on others.
        """
        if not self.declared and not out_of_fold:
            return None
        everything = frozenset() if self.declared else frozenset(training.ids)
        models = (a | b | everything for a, b in zip(own.models, self.ids, strict=True))
        return TrainingIds(tuple(models), own.model)


@dataclass(frozen=True, eq=False)
class PredictJob:
    """Predict one member's maps of one split; continues after an interruption."""

    member: Member
    data: Path
    training: Path
    folds: tuple[Fold, ...]
    models: tuple[Path, ...]
    out_of_fold: bool
    folder: Path
    dtype: StoreDtype
    config: dict[str, Any]
    inputs: dict[str, str]
    at: str | None = None
    taught_by: "Taught | None" = None

    @property
    def name(self) -> str:
        """Member and split."""
        return f"{self.member.name} {self.folder.name}"

    def __call__(self, device: str) -> None:
        """Write the store; blocks made from the same inputs are kept."""
        if not is_current(self.folder, config=self.config, inputs=self.inputs, part=STARTED):
            remove_folder(self.folder)
            record(self.folder, config=self.config, inputs=self.inputs, part=STARTED)
        with ProgressFile(self.folder).writing() as progress:
            predict_split(
                self.member,
                DataSet.load(self.data),
                self.models,
                seen=self._trained_on(),
                device=device,
                folder=self.folder,
                dtype=self.dtype,
                at=self.at,
                watch=progress.write,
            )
        (self.folder / f"{STARTED}.{RECORD}").unlink()
        record(self.folder, config=self.config, inputs=self.inputs)

    def _trained_on(self) -> TrainingIds | None:
        if self.member.network is None:
            training = DataSet.load(self.training)
            own = training_ids(training, self.folds, out_of_fold=self.out_of_fold)
            if self.taught_by is None or own is None:
                return own
            return self.taught_by.seen(own, training, out_of_fold=self.out_of_fold)
        declared = read_reading(self.models[0]).trained_on
        return None if declared is None else TrainingIds((frozenset(declared),))


Job = TrainJob | PredictJob


def run_jobs(
    jobs: Sequence[AnyJob], devices: Sequence[str], *, workers: int | None = None
) -> Iterator[tuple[AnyJob, Any]]:
    """Run jobs in parallel and yield each as it ends, with its outcome.

    Args:
        jobs: picklable; each is called with its device.
        devices: `cpu`, or GPUs.
        workers: processes per device, see `device_slots`.
    """
    if (cluster := current_cluster()) is not None:
        # All at once, so that workers which join later find work.
        yield from run_on_cluster(jobs, cluster, at_a_time=len(jobs))
    else:
        yield from run_parallel(iter(jobs), device_slots(devices, workers, len(jobs)))


def run_parallel(jobs: Iterator[AnyJob], slots: Sequence[str]) -> Iterator[tuple[AnyJob, Any]]:
    """Take a job whenever a process is free; yield each as it ends, with its outcome.

    Within `on_cluster` jobs go to its workers, as many at a time as they have GPUs, or cores if
    they declare no GPUs.

    Args:
        jobs: may depend on what was yielded before: the next is taken only when a process is free.
        slots: a device per job at a time; with one, on the CPU, the jobs run in this process.
    """
    if (cluster := current_cluster()) is not None:
        yield from run_on_cluster(jobs, cluster)
    elif list(slots) == ["cpu"]:
        yield from one_by_one(jobs, slots[0])
    else:
        yield from run_in_pool(jobs, slots)


def device_slots(devices: Sequence[str], workers: int | None, jobs: int) -> list[str]:
    """Return the device of each job at a time, alternating between devices: 1 to `jobs` of them.

    On the CPU each job has a process with one core: two small networks on a core each train faster
    (1.2 to 1.5 times, width 8 to 16) than one after the other on both, and results do not depend on
    the number of cores. On a GPU the trainings take turns in one process (docs/decisions/0023).

    Args:
        devices: `cpu`, or GPUs.
        workers: jobs at a time per device; by default the number of cores on the CPU, and four on a
            GPU.
        jobs: how many there are to run.
    """
    each = (os.cpu_count() or 1) if list(devices) == ["cpu"] else JOBS_PER_GPU
    return (list(devices) * (workers or each))[: max(1, jobs)]


def one_by_one(jobs: Iterable[AnyJob], device: str) -> Iterator[tuple[AnyJob, Any]]:
    """Run jobs in this process, each on one core as a worker would; yield each with its outcome."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        for job in jobs:
            yield job, outcome_of(functools.partial(job, device))
    finally:
        torch.set_num_threads(threads)


def run_on_cluster(
    jobs: Iterable[AnyJob], cluster: Cluster, *, at_a_time: int | None = None
) -> Iterator[tuple[AnyJob, Any]]:
    """Run jobs on a cluster and yield each as it ends, with its outcome.

    Args:
        jobs: taken as they can be run.
        cluster: where to run them.
        at_a_time: jobs to submit at a time; by default as many as the cluster has GPUs, or cores.
    """
    pending, suspects = iter(jobs), []
    tasks: dict[ClusterTask, AnyJob] = {}
    try:
        while True:
            capacity = at_a_time or max(1, cluster.gpus or cluster.width)
            while len(tasks) < capacity and (job := next(pending, None)) is not None:
                tasks[submit_job(cluster, job)] = job
            if not tasks:
                break
            for task in cluster.ended(list(tasks)):
                job, outcome = tasks.pop(task), job_outcome(task)
                if isinstance(outcome, WorkerDied):
                    suspects.append(job)
                else:
                    yield job, outcome
    finally:
        for task in tasks:
            task.cancel()
    # Alone: one that was waiting on a worker that died may be innocent.
    for job in suspects:
        yield job, job_outcome(submit_job(cluster, job))


def submit_job(cluster: Cluster, job: Callable[[str], Any]) -> ClusterTask:
    """Begin a job: on a GPU if workers declare any, else on a core."""
    gpu = bool(cluster.gpus)
    work = functools.partial(_run_serialised, job, "cuda:0" if gpu else "cpu")
    return cluster.submit(pack(work), resources={"GPU": 1} if gpu else None)


def job_outcome(task: ClusterTask) -> Any:
    """Wait for a job on a cluster and return its outcome."""
    return outcome_of(task.result)


_TRAINING_LOCK = threading.Lock()


def _run_serialised(job: Callable[[str], Any], device: str) -> Any:
    # Seeds belong to a process, so its threads must not train at the same time.
    with _TRAINING_LOCK:
        torch.set_num_threads(1)
        outcome = outcome_of(functools.partial(job, device))
    if isinstance(outcome, DeviceFailed):
        # No later job can use the device in this process; the cluster retries it elsewhere.
        sys.stderr.write(f"ens: {outcome}\n")
        sys.stderr.flush()
        os._exit(1)
    return outcome
