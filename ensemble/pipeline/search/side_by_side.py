"""Jobs drawn one by one as a process gets free, so that each may depend on those that ended."""

import multiprocessing
import os
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from typing import Any, TypeVar

import torch

from evaluation.ground.cluster import Cluster, Task, current
from evaluation.ground.errors import EnsError
from members.jobs import WORKERS_A_GPU
from members.remote import job_outcome, submit_job

Job = TypeVar("Job", bound=Callable[[str], Any])


def places(devices: Sequence[str], workers: int | None, jobs: int) -> list[str]:
    """Return the device of each process, the devices by turns; no more than there are jobs.

    On a cluster there are as many as its GPUs, or its cores where it has none.

    Args:
        devices: `cpu`, or GPUs.
        workers: processes on each; by default as in `members.jobs.run_jobs`.
        jobs: how many there will be at most.
    """
    if (cluster := current()) is not None:
        return ["cluster"] * min(max(1, cluster.gpus or cluster.width), max(1, jobs))
    cores = os.cpu_count() or 1
    if list(devices) != ["cpu"]:
        cores = max(1, min(WORKERS_A_GPU, cores // len(devices)))
    return (list(devices) * (workers or cores))[: max(1, jobs)]


def side_by_side(jobs: Iterator[Job], where: Sequence[str]) -> Iterator[tuple[Job, Any]]:
    """Draw a job whenever a process is free; yield each as it ends, with its result.

    On the CPU a process has one core, so a result does not depend on how many there are.

    Args:
        jobs: drawn late: the caller has dealt with all that was yielded before.
        where: the device of each process; with one, the work is done in this process.

    Yields:
        A job, and what it returned or the `EnsError` that ended it.
    """
    if (cluster := current()) is not None:
        yield from _on_cluster(jobs, cluster, len(where))
        return
    if len(where) > 1:
        while suspects := (yield from _pooled(jobs, where)):
            # Alone, so that the one that kills its process is known, and the others are not lost.
            for suspect in suspects:
                yield suspect, _alone(suspect, where[0])
        return
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        for job in jobs:
            yield job, _outcome(job, where[0])
    finally:
        torch.set_num_threads(threads)


def _on_cluster(jobs: Iterator[Job], cluster: Cluster, width: int) -> Iterator[tuple[Job, Any]]:
    tasks: dict[Task, Job] = {}
    try:
        while True:
            while len(tasks) < width and (job := next(jobs, None)) is not None:
                tasks[submit_job(cluster, job)] = job
            if not tasks:
                return
            for task in cluster.ended(list(tasks)):
                yield tasks.pop(task), job_outcome(task)
    finally:
        for task in tasks:
            task.cancel()


def _pooled(
    jobs: Iterator[Job], where: Sequence[str]
) -> Generator[tuple[Job, Any], None, list[Job]]:
    """Run jobs in a pool; return none of them, or, where a process died, those under way."""
    under_way: list[Job] = []
    futures: dict[Future[Any], Job] = {}
    with _pool(where) as pool:
        try:
            while True:
                while len(under_way) < len(where) and (job := next(jobs, None)) is not None:
                    under_way.append(job)
                    futures[pool.submit(_run, job)] = job
                if not under_way:
                    break
                for future in wait(futures, return_when=FIRST_COMPLETED).done:
                    outcome = future.result()
                    job = futures.pop(future)
                    under_way.remove(job)
                    yield job, outcome
        except BrokenProcessPool:
            pass
        finally:
            pool.shutdown(wait=True, cancel_futures=True)
    return under_way


def _alone(job: Callable[[str], Any], device: str) -> Any:
    with _pool([device]) as pool:
        try:
            return pool.submit(_run, job).result()
        except BrokenProcessPool:
            return EnsError("its process died, perhaps for want of memory")


def _pool(where: Sequence[str]) -> ProcessPoolExecutor:
    context = multiprocessing.get_context("spawn")
    queue = context.Queue()
    for device in where:
        queue.put(device)
    return ProcessPoolExecutor(len(where), context, _settle, (queue,))


def _outcome(job: Callable[[str], Any], device: str) -> Any:
    try:
        return job(device)
    except EnsError as error:
        return error
    except torch.OutOfMemoryError as error:
        return EnsError(f"{device} is out of memory ({str(error).splitlines()[0]})")


_device = "cpu"


def _settle(queue: Any) -> None:
    """Take a device for the life of a process."""
    global _device
    _device = queue.get()
    torch.set_num_threads(1)


def _run(job: Callable[[str], Any]) -> Any:
    return _outcome(job, _device)
