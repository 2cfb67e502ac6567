"""Training and prediction as jobs that run side by side, one device or core each.

Jobs on the workers of a cluster.
"""

import contextlib
import functools
import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import torch

from evaluation.core.cluster import Cluster, ClusterTask, WorkerDied, current_cluster
from evaluation.core.errors import EnsError
from evaluation.core.files import atomic_folder, remove_folder
from evaluation.core.function_pickle import pack
from evaluation.core.provenance import (
    RECORD,
    digest,
    is_current,
    record,
)
from members.data.dataset import DataSet
from members.predict import predict_split, training_ids
from members.recipe import Member
from members.store_metadata import StoreDtype
from members.train import WEIGHTS, Fold, train_fold

RemoteJob = TypeVar("RemoteJob", bound=Callable[[str], Any])

_TURNS = threading.Lock()


def run_on_cluster(jobs: Sequence[RemoteJob], cluster: Cluster) -> Iterator[tuple[RemoteJob, Any]]:
    """Run jobs on a cluster and yield each as it ends, with what `job_outcome` says of it.

    Args:
        jobs: what to do; a failed one does not stop the others.
        cluster: where.
    """
    tasks = {submit_job(cluster, job): job for job in jobs}
    suspects = []
    try:
        while tasks:
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
    """Begin a job: on a GPU where workers declare any, else on a core.

    Args:
        cluster: where.
        job: what is called with the name of its device.
    """
    gpu = bool(cluster.gpus)
    work = functools.partial(_in_turn, job, "cuda:0" if gpu else "cpu")
    return cluster.submit(pack(work), resources={"GPU": 1} if gpu else None)


def job_outcome(task: ClusterTask) -> Any:
    """Wait for a job; return what it returned, or the `EnsError` that ended it."""
    return outcome_of(task.result)


def outcome_of(work: Callable[[], Any]) -> Any:
    """Do some work; return what it returned, or the `EnsError` that ended it."""
    try:
        return work()
    except EnsError as error:
        return error
    except torch.OutOfMemoryError:
        return EnsError("the GPU ran out of memory; take fewer --workers or a smaller batch")


def _in_turn(job: Callable[[str], Any], device: str) -> Any:
    with _TURNS:  # seeds belong to a process, so its threads must not train side by side
        torch.set_num_threads(1)
        return outcome_of(functools.partial(job, device))


WORKERS_A_GPU = 4

BEGUN = "begun"
"""Part of a store's record while it is written: what the blocks that are there were made of."""


@dataclass(frozen=True, eq=False)
class TrainJob:
    """Train one member in one fold; picklable, and done whole or not at all."""

    member: Member
    data: Path
    fold: Fold
    seed: int
    folder: Path
    asked: dict[str, Any]
    inputs: dict[str, str]

    @property
    def name(self) -> str:
        """Member and fold."""
        return f"{self.member.name} fold {self.fold.index}"

    def __call__(self, device: str) -> None:
        """Write the fold's folder."""
        with atomic_folder(self.folder) as partial:
            train_fold(
                self.member,
                DataSet.load(self.data),
                self.fold,
                seed=self.seed,
                device=device,
                folder=partial,
            )
            outputs = {WEIGHTS: digest(partial / WEIGHTS)}
            record(partial, asked=self.asked, inputs=self.inputs, outputs=outputs)


@dataclass(frozen=True, eq=False)
class PredictJob:
    """Predict one member's maps of one split; picklable, and goes on where it was stopped."""

    member: Member
    data: Path
    training: Path
    folds: tuple[Fold, ...]
    models: tuple[Path, ...]
    out_of_fold: bool
    folder: Path
    dtype: StoreDtype
    asked: dict[str, Any]
    inputs: dict[str, str]
    at: str | None = None

    @property
    def name(self) -> str:
        """Member and split."""
        return f"{self.member.name} {self.folder.name}"

    def __call__(self, device: str) -> None:
        """Write the store; blocks that were made of just the same are left alone."""
        if not is_current(self.folder, asked=self.asked, inputs=self.inputs, part=BEGUN):
            remove_folder(self.folder)
            record(self.folder, asked=self.asked, inputs=self.inputs, part=BEGUN)
        training = DataSet.load(self.training)
        predict_split(
            self.member,
            DataSet.load(self.data),
            self.models,
            seen=training_ids(training, self.folds, out_of_fold=self.out_of_fold),
            device=device,
            folder=self.folder,
            dtype=self.dtype,
            at=self.at,
        )
        (self.folder / f"{BEGUN}.{RECORD}").unlink()
        record(self.folder, asked=self.asked, inputs=self.inputs)


Job = TrainJob | PredictJob
AnyJob = TypeVar("AnyJob", bound=Callable[[str], Any])


def run_jobs(
    jobs: Sequence[AnyJob], devices: Sequence[str], *, workers: int | None = None
) -> Iterator[tuple[AnyJob, EnsError | None]]:
    """Run jobs side by side and yield each as it ends, with the error that ended it.

    On the CPU each job has one core to itself: two small networks on a core each train faster
    (1.2 to 1.5 times, width 8 to 16) than one after the other on both, and the result does not
    depend on how many cores there are. On a GPU small networks wait for their next kernel to be
    launched most of the time, so several processes share it (docs/decisions/0008). Within
    `on_cluster` jobs go to its workers, which use the GPUs they declare.

    Args:
        jobs: what to do, picklable, each called with its device; a failed one does not stop the
            others.
        devices: `cpu`, or GPUs.
        workers: processes on each device; by default the number of cores on the CPU, and on a GPU
            four, where there are as many cores to feed it.
    """
    if not jobs:
        return
    if (cluster := current_cluster()) is not None:
        yield from run_on_cluster(jobs, cluster)
        return
    slots = device_slots(devices, workers, len(jobs))
    if len(slots) == 1:
        yield from one_by_one(jobs, slots[0])
        return
    waiting = list(jobs)
    while waiting:
        waiting, suspects = yield from _pooled(waiting, slots)
        # Alone, so that the one that kills its worker is known, and the others are not lost.
        for suspect in suspects:
            _, killers = yield from _pooled([suspect], slots[:1])
            for killer in killers:
                yield killer, EnsError("its process died, perhaps for want of memory")


def device_slots(devices: Sequence[str], workers: int | None, jobs: int) -> list[str]:
    """Return the device of each process, the devices by turns; one or more, but not above jobs."""
    cores = os.cpu_count() or 1
    if list(devices) != ["cpu"]:
        cores = max(1, min(WORKERS_A_GPU, cores // len(devices)))
    return (list(devices) * (workers or cores))[: max(1, jobs)]


def one_by_one(jobs: Iterable[AnyJob], device: str) -> Iterator[tuple[AnyJob, Any]]:
    """Run jobs in this process, each on one core as a worker would; yield each with its outcome."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        for job in jobs:
            yield job, outcome_of(functools.partial(job, device))
    finally:
        torch.set_num_threads(threads)


@contextlib.contextmanager
def worker_pool(slots: Sequence[str]) -> Iterator[ProcessPoolExecutor]:
    """Give a pool for `submit`, of processes that keep one device and end with this process.

    They are killed where an error leaves the pool: whoever interrupts does not wait for the end of
    a training.

    Args:
        slots: the device of each process.
    """
    context = multiprocessing.get_context("spawn")
    queue = context.Queue()
    for slot in slots:
        queue.put(slot)
    others = set(multiprocessing.active_children())
    with ProcessPoolExecutor(len(slots), context, _settle, (queue,)) as pool:
        try:
            yield pool
        except BaseException:
            for worker in set(multiprocessing.active_children()) - others:
                worker.kill()
            raise
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


def submit(pool: ProcessPoolExecutor, job: Callable[[str], Any]) -> Future[Any]:
    """Begin a job in a `worker_pool`; it is called with the device of its process."""
    with _interrupts_held():
        return pool.submit(_run, job)


def _pooled(
    jobs: Sequence[AnyJob], slots: Sequence[str]
) -> Generator[tuple[AnyJob, EnsError | None], None, tuple[list[AnyJob], list[AnyJob]]]:
    """Run jobs in a pool; where a worker dies, return those not begun, and those under way."""
    left = dict.fromkeys(jobs)
    with worker_pool(slots) as pool:
        futures = {submit(pool, job): job for job in jobs}
        for future in as_completed(futures):
            try:
                outcome = outcome_of(future.result)
            except BrokenProcessPool:
                continue
            del left[futures[future]]
            yield futures[future], outcome
    # Jobs are begun in order, so those under way were the first of what is left.
    return list(left)[len(slots) :], list(left)[: len(slots)]


@contextlib.contextmanager
def _interrupts_held() -> Iterator[None]:
    """Let a process started meanwhile never see Ctrl-C, which goes to all of a terminal."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


_device = "cpu"


def _settle(queue: Any) -> None:
    """Take a device for the life of a worker process."""
    global _device
    _device = queue.get()
    torch.set_num_threads(1)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    """End when the parent was killed: what it was doing may be under way elsewhere by now."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)


def _run(job: Callable[[str], Any]) -> Any:
    return job(_device)
