"""Jobs drawn one by one as a process gets free, so that each may depend on those that ended."""

from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from concurrent.futures.process import BrokenProcessPool
from typing import Any, TypeVar

from evaluation.ground.cluster import Cluster, Task, current
from evaluation.ground.errors import EnsError
from members.jobs import one_by_one, submit, worker_pool
from members.remote import job_outcome, outcome_of, submit_job

Job = TypeVar("Job", bound=Callable[[str], Any])


def side_by_side(jobs: Iterator[Job], slots: Sequence[str]) -> Iterator[tuple[Job, Any]]:
    """Draw a job whenever a process is free; yield each as it ends, with its result.

    On the CPU a process has one core, so a result does not depend on how many there are. Within
    `on_cluster` jobs go to its workers, as many at a time as it has GPUs, or cores where it has
    none.

    Args:
        jobs: drawn late: the caller has dealt with all that was yielded before.
        slots: the device of each process, see `members.jobs.device_slots`; with one, the work is
            done in this process.

    Yields:
        A job, and what it returned or the `EnsError` that ended it.
    """
    if (cluster := current()) is not None:
        yield from _on_cluster(jobs, cluster)
        return
    if len(slots) == 1:
        yield from one_by_one(jobs, slots[0])
        return
    while suspects := (yield from _pooled(jobs, slots)):
        # Alone, so that the one that kills its process is known, and the others are not lost.
        for suspect in suspects:
            yield suspect, _alone(suspect, slots[0])


def _on_cluster(jobs: Iterator[Job], cluster: Cluster) -> Iterator[tuple[Job, Any]]:
    tasks: dict[Task, Job] = {}
    width = max(1, cluster.gpus or cluster.width)
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
    jobs: Iterator[Job], slots: Sequence[str]
) -> Generator[tuple[Job, Any], None, list[Job]]:
    """Run jobs in a pool; return none of them, or, where a process died, those under way."""
    under_way: list[Job] = []
    futures: dict[Future[Any], Job] = {}
    with worker_pool(slots) as pool:
        try:
            while True:
                while len(under_way) < len(slots) and (job := next(jobs, None)) is not None:
                    under_way.append(job)
                    futures[submit(pool, job)] = job
                if not under_way:
                    break
                for future in wait(futures, return_when=FIRST_COMPLETED).done:
                    outcome = outcome_of(future.result)
                    job = futures.pop(future)
                    under_way.remove(job)
                    yield job, outcome
        except BrokenProcessPool:
            pass
    return under_way


def _alone(job: Callable[[str], Any], device: str) -> Any:
    with worker_pool([device]) as pool:
        try:
            return outcome_of(submit(pool, job).result)
        except BrokenProcessPool:
            return EnsError("its process died, perhaps for want of memory")
