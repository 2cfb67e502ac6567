"""Jobs on the workers of a cluster."""

import functools
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar

import torch

from evaluation.ground.cluster import Cluster, Task, WorkerDied
from evaluation.ground.errors import EnsError
from evaluation.ground.parcels import pack

Job = TypeVar("Job", bound=Callable[[str], Any])

_TURNS = threading.Lock()


def run_remotely(jobs: Sequence[Job], cluster: Cluster) -> Iterator[tuple[Job, Any]]:
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


def submit_job(cluster: Cluster, job: Callable[[str], Any]) -> Task:
    """Begin a job: on a GPU where workers declare any, else on a core.

    Args:
        cluster: where.
        job: what is called with the name of its device.
    """
    gpu = bool(cluster.gpus)
    work = functools.partial(_in_turn, job, "cuda:0" if gpu else "cpu")
    return cluster.submit(pack(work), resources={"GPU": 1} if gpu else None)


def job_outcome(task: Task) -> Any:
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
