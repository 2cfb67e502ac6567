"""Processes that run jobs, each on one device: one job at a time on the CPU, several on a GPU.

What `concurrent.futures` does not give, and is therefore here: a device per process; trainings that
take turns on a GPU, each in its own stream; a job that ends its process ends no other process, and
is known; processes end with their parent, also if that is killed, and are not interrupted by Ctrl-C
before it.
"""

import contextlib
import itertools
import multiprocessing
import os
import signal
import threading
import traceback
from collections import Counter, deque
from collections.abc import Callable, Generator, Iterator, Sequence
from functools import partial
from multiprocessing.connection import wait
from typing import Any, TypeVar

import torch

from evaluation.core.cluster import WorkerDied
from evaluation.core.errors import EnsError
from members.devices import DeviceFailed, device_error

WORKER_DIED = "its process died, possibly out of memory"
END_SECONDS = 10

AnyJob = TypeVar("AnyJob", bound=Callable[[str], Any])


def outcome_of(work: Callable[[], Any]) -> Any:
    """Call a function; return what it returned, or the `EnsError` that ended it."""
    try:
        return work()
    except EnsError as error:
        return error
    except RuntimeError as error:
        failure = device_error(error)
        if failure is None:
            raise
        return failure


def run_in_pool(jobs: Iterator[AnyJob], slots: Sequence[str]) -> Iterator[tuple[AnyJob, Any]]:
    """Run jobs in processes, and yield each as it ends, with its outcome.

    Jobs that were running in a process that died are run again, one at a time, unless there was
    only one. If an error leaves this the processes are killed.

    Args:
        jobs: the next is taken when one can start.
        slots: a device per job at a time. On the CPU each is a process; all of a GPU are one.
    """
    at_a_time = Counter(slots)
    workers = [_Worker(device, count) for device, count in at_a_time.items() if device != "cpu"]
    workers += [_Worker("cpu", 1) for _ in range(at_a_time["cpu"])]
    suspects: deque[AnyJob] = deque()
    try:
        while True:
            _give_jobs(workers, jobs, suspects)
            busy = {worker.connection: worker for worker in workers if worker.jobs}
            if not busy:
                return
            for connection in wait(list(busy)):
                ended, died = busy[connection].receive()
                yield from ended
                suspects.extend(died)
    finally:
        for worker in workers:
            worker.end()


def _give_jobs(
    workers: Sequence["_Worker"], jobs: Iterator[AnyJob], suspects: deque[AnyJob]
) -> None:
    while suspects and (idle := [worker for worker in workers if not worker.jobs]):
        idle[0].begin(suspects.popleft(), alone=True)
    while free := [worker for worker in workers if worker.has_room]:
        job = next(jobs, None)
        if job is None:
            return
        min(free, key=lambda worker: len(worker.jobs)).begin(job)


class _Worker:
    """A process with its running jobs; started with the first, and again after it died."""

    connection: Any = None

    def __init__(self, device: str, at_a_time: int) -> None:
        self.jobs: dict[int, Any] = {}
        self._device, self._at_a_time = device, at_a_time
        self._numbers = itertools.count()
        self._process: Any = None
        self._is_alone = False

    @property
    def has_room(self) -> bool:
        """Whether another job may begin."""
        return len(self.jobs) < self._at_a_time and not (self._is_alone and self.jobs)

    def begin(self, job: Any, *, alone: bool = False) -> None:
        """Send a job."""
        if self._process is None:
            self._start()
        self._is_alone = alone
        number = next(self._numbers)
        self.jobs[number] = job
        with contextlib.suppress(BrokenPipeError):  # it has died, as `receive` will tell
            self.connection.send((number, job))

    def receive(self) -> tuple[list[tuple[Any, Any]], list[Any]]:
        """Return jobs that ended, with their outcomes, and jobs that a dead process leaves."""
        try:
            number, outcome, is_bug = self.connection.recv()
        except (EOFError, ConnectionResetError):
            number, outcome, is_bug = None, WorkerDied(WORKER_DIED), False
        if is_bug:
            raise outcome
        if number is not None:
            return [(self.jobs.pop(number), outcome)], []
        self.kill()
        left, self.jobs = list(self.jobs.values()), {}
        return ([(left[0], outcome)], []) if len(left) == 1 else ([], left)

    def end(self) -> None:
        """Let an idle process end by itself; kill one that has a job."""
        if self._process is not None and not self.jobs:
            with contextlib.suppress(BrokenPipeError):
                self.connection.send(None)
            self._process.join(END_SECONDS)
        self.kill()

    def kill(self) -> None:
        """End the process at once."""
        if self._process is not None:
            self._process.kill()
            self._process.join()
            self.connection.close()
            self._process = None

    def _start(self) -> None:
        context = multiprocessing.get_context("spawn")
        self.connection, theirs = context.Pipe()
        self._process = context.Process(target=_work, args=(theirs, self._device))
        # The terminal sends Ctrl-C to all processes; this one decides.
        before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        try:
            self._process.start()
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
        theirs.close()


def _work(connection: Any, device: str) -> None:
    """Run jobs as they come, step by step in turn, until the parent ends the process."""
    torch.set_num_threads(1)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    running: dict[int, Generator[None, None, Any]] = {}
    while True:
        while not running or connection.poll():
            message = connection.recv()
            if message is None:
                return
            number, job = message
            running[number] = steps_of(job, device)
        for number, steps in list(running.items()):
            try:
                outcome = outcome_of(partial(advance, steps))
            except BaseException:
                connection.send((number, RuntimeError(traceback.format_exc()), True))
                return
            if not is_ended(outcome):
                continue
            if isinstance(outcome, DeviceFailed):
                # Nothing works on the device in this process any more, whosever fault it was.
                connection.send((None, outcome, False))
                os._exit(1)
            del running[number]
            connection.send((number, outcome, False))


_GOES_ON = object()


def is_ended(outcome: Any) -> bool:
    """Tell whether what `advance` returned is an outcome."""
    return outcome is not _GOES_ON


def advance(steps: Generator[None, None, Any]) -> Any:
    """Take one step; return the outcome after the last one."""
    try:
        next(steps)
    except StopIteration as end:
        return end.value
    return _GOES_ON


def steps_of(job: Any, device: str) -> Generator[None, None, Any]:
    """Run a job, a step with each `next` where it has any; each in a stream of its own."""
    if device == "cpu" or not hasattr(job, "steps"):
        return job(device)
    steps = job.steps(device)
    with torch.cuda.device(device):
        stream = torch.cuda.Stream()  # type: ignore[no-untyped-call]
    while True:
        with torch.cuda.device(device), torch.cuda.stream(stream):
            outcome = advance(steps)
        if is_ended(outcome):
            return outcome
        yield


def _end_with_parent() -> None:
    """End when the parent was killed: its work may be running elsewhere by now."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)
