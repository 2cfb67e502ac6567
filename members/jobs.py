"""Jobs (trainings, predictions) run in parallel: by local processes or on a Dask cluster.

A job is a picklable callable that takes the name of its device. `run_parallel` yields each job with
its outcome: what it returned, or the `EnsError` that ended it. One that kills its process does not
stop the others.

What `concurrent.futures` and Dask do not give, and is therefore here: a device per process; jobs
that are created only when a process is free; a job that kills its process is identified; processes
end with their parent, also if that is killed, and are not interrupted by Ctrl-C before it.
"""

import contextlib
import functools
import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import torch

from evaluation.core.cluster import Cluster, ClusterTask, WorkerDied, current_cluster
from evaluation.core.errors import EnsError
from evaluation.core.files import atomic_folder, remove_folder
from evaluation.core.function_pickle import pack
from evaluation.core.provenance import RECORD, digest, is_current, record
from evaluation.run_metric import MASKED
from members.data.dataset import DataSet
from members.predict import predict_split, training_ids
from members.recipe import Member
from members.store_metadata import StoreDtype
from members.train import WEIGHTS, Fold, train_fold

WORKERS_PER_GPU = 4
WORKER_DIED = "its process died, possibly out of memory"
STARTED = "begun"
"""Part of a store's record while it is written: the inputs of the blocks that exist already."""

AnyJob = TypeVar("AnyJob", bound=Callable[[str], Any])


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

    @property
    def name(self) -> str:
        """Member and fold."""
        return f"{self.member.name} fold {self.fold.index}"

    def __call__(self, device: str) -> None:
        """Write the fold's folder."""
        data = DataSet.load(self.data)
        with atomic_folder(self.folder) as partial:
            train_fold(
                self.member,
                data,
                self.fold,
                seed=self.seed,
                device=device,
                folder=partial,
                metric=self.metric,
            )
            outputs = {WEIGHTS: digest(partial / WEIGHTS)}
            record(partial, config=self.config, inputs=self.inputs, outputs=outputs)


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

    @property
    def name(self) -> str:
        """Member and split."""
        return f"{self.member.name} {self.folder.name}"

    def __call__(self, device: str) -> None:
        """Write the store; blocks made from the same inputs are kept."""
        if not is_current(self.folder, config=self.config, inputs=self.inputs, part=STARTED):
            remove_folder(self.folder)
            record(self.folder, config=self.config, inputs=self.inputs, part=STARTED)
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
        (self.folder / f"{STARTED}.{RECORD}").unlink()
        record(self.folder, config=self.config, inputs=self.inputs)


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
        slots: the device of each process; with one, the jobs run in this process.
    """
    if (cluster := current_cluster()) is not None:
        yield from run_on_cluster(jobs, cluster)
    elif len(slots) == 1:
        yield from one_by_one(jobs, slots[0])
    else:
        while suspects := (yield from _run_in_pool(jobs, slots)):
            # Alone, so that the one that kills its process is known, and the others are not lost.
            for suspect in suspects:
                if (yield from _run_in_pool(iter([suspect]), slots[:1])):
                    yield suspect, WorkerDied(WORKER_DIED)


def device_slots(devices: Sequence[str], workers: int | None, jobs: int) -> list[str]:
    """Return the device of each process, alternating between devices: 1 to `jobs` of them.

    On the CPU each job has one core: two small networks on a core each train faster (1.2 to 1.5
    times, width 8 to 16) than one after the other on both, and results do not depend on the number
    of cores. On a GPU small networks mostly wait for kernel launches, so several processes share it
    (docs/decisions/0008).

    Args:
        devices: `cpu`, or GPUs.
        workers: processes per device; by default the number of cores on the CPU, and on a GPU four
            if there are as many cores for each.
        jobs: how many there are to run.
    """
    cores = os.cpu_count() or 1
    if list(devices) != ["cpu"]:
        cores = max(1, min(WORKERS_PER_GPU, cores // len(devices)))
    return (list(devices) * (workers or cores))[: max(1, jobs)]


def outcome_of(work: Callable[[], Any]) -> Any:
    """Call a function; return what it returned, or the `EnsError` that ended it."""
    try:
        return work()
    except EnsError as error:
        return error
    except BrokenProcessPool:
        return WorkerDied(WORKER_DIED)
    except torch.OutOfMemoryError:
        return EnsError("the GPU ran out of memory; use fewer --workers or a smaller batch")


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
    tasks: dict[ClusterTask, AnyJob] = {}
    try:
        suspects = yield from _run(
            iter(jobs),
            tasks,
            submit=functools.partial(submit_job, cluster),
            ended=cluster.ended,
            capacity=lambda _: at_a_time or max(1, cluster.gpus or cluster.width),
        )
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
    with (
        _TRAINING_LOCK
    ):  # seeds belong to a process, so its threads must not train at the same time
        torch.set_num_threads(1)
        return outcome_of(functools.partial(job, device))


def _run_in_pool(
    jobs: Iterator[AnyJob], slots: Sequence[str]
) -> Generator[tuple[AnyJob, Any], None, list[AnyJob]]:
    """Run jobs in a pool of processes; if one dies, return the jobs that were running."""
    with worker_pool(slots) as pool:
        suspects = yield from _run(
            jobs,
            {},
            submit=functools.partial(submit, pool),
            ended=lambda futures: wait(futures, return_when=FIRST_COMPLETED).done,
            capacity=lambda suspects: 0 if suspects else len(slots),  # the whole pool has ended
        )
    return suspects


def _run(
    jobs: Iterator[AnyJob],
    tasks: dict[Any, AnyJob],
    *,
    submit: Callable[[AnyJob], Any],
    ended: Callable[[list[Any]], Iterable[Any]],
    capacity: Callable[[list[AnyJob]], int],
) -> Generator[tuple[AnyJob, Any], None, list[AnyJob]]:
    """Run jobs, and yield each with its outcome; return those whose process died.

    Args:
        jobs: the next is taken when fewer than `capacity` are running.
        tasks: the running jobs by task, kept up to date.
        submit: begins a job and returns its task, which has `result()`.
        ended: waits until some tasks have ended and returns them.
        capacity: number of jobs that may run, given those whose process died.
    """
    suspects: list[AnyJob] = []
    while True:
        while len(tasks) < capacity(suspects) and (job := next(jobs, None)) is not None:
            tasks[submit(job)] = job
        if not tasks:
            return suspects
        for task in ended(list(tasks)):
            job, outcome = tasks.pop(task), outcome_of(task.result)
            if isinstance(outcome, WorkerDied):
                suspects.append(job)
            else:
                yield job, outcome


@contextlib.contextmanager
def worker_pool(slots: Sequence[str]) -> Iterator[ProcessPoolExecutor]:
    """Start a pool of processes, each with one device, for `submit`; they end with this process.

    If an error leaves the context the processes are killed: an interrupt does not wait for the end
    of a training.

    Args:
        slots: the device of each process.
    """
    context = multiprocessing.get_context("spawn")
    queue = context.Queue()
    for slot in slots:
        queue.put(slot)
    others = set(multiprocessing.active_children())
    with ProcessPoolExecutor(len(slots), context, _init_worker, (queue,)) as pool:
        try:
            yield pool
        except BaseException:
            for worker in set(multiprocessing.active_children()) - others:
                worker.kill()
            raise
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


def submit(pool: ProcessPoolExecutor, job: Callable[[str], Any]) -> Future[Any]:
    """Begin a job in a `worker_pool`; it is called with the device of its process.

    A process started by this ignores Ctrl-C, which the terminal sends to all processes.
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        return pool.submit(_call, job)
    except BrokenProcessPool as error:  # a process has died since the last result
        future: Future[Any] = Future()
        future.set_exception(error)
        return future
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


_device = "cpu"


def _init_worker(queue: Any) -> None:
    """Take a device for the life of a worker process."""
    global _device
    _device = queue.get()
    torch.set_num_threads(1)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    """End when the parent was killed: its work may be running elsewhere by now."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)


def _call(job: Callable[[str], Any]) -> Any:
    return job(_device)
