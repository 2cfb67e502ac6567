"""Workers of a Dask cluster, to which commands send their work on blocks and their jobs."""

import contextlib
import logging
import operator
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from contextvars import ContextVar
from importlib import import_module
from typing import Any

from evaluation.core.errors import EnsError
from evaluation.core.function_pickle import PickledFunction, pack
from evaluation.core.worker import call, call_unless_orphaned, unpack, wait_until_idle

CONNECT_SECONDS = 10

SETTINGS = {
    # A worker holds at most one task more than it runs, so few tasks are blamed when it dies.
    "distributed.scheduler.worker-saturation": 1.0,
    "distributed.admin.large-graph-warning-threshold": "1 GiB",
    # The nanny restarts a local process that died; by default a process that is still missing
    # after 15 s, perhaps because it died again, is never replaced.
    "distributed.deploy.lost-worker-timeout": "1000 days",
}

WORKER = {
    "threads_per_worker": 1,
    # Pages of mapped files count as a worker's memory, though the system can reclaim them.
    "memory_limit": 0,
    "dashboard_address": "127.0.0.1:0",  # with None, port 8787 is taken
    "silence_logs": logging.CRITICAL,
}


class WorkerDied(EnsError):
    """A task whose worker processes died."""


class ClusterTask:
    """A task that runs on a cluster, by its Dask future."""

    def __init__(self, future: Any) -> None:
        self.future = future

    def result(self) -> Any:
        """Wait for the result and return it, or raise what the task raised.

        Raises:
            WorkerDied: the worker processes died, repeatedly.
            EnsError: raised by the task; or the cluster is gone.
        """
        distributed = _distributed()
        try:
            return self.future.result()
        except distributed.KilledWorker:
            raise WorkerDied("its process died, possibly out of memory") from None
        except distributed.client.FutureCancelledError as error:
            raise EnsError(f"the cluster is gone ({error}); start it and run again") from None

    def wait(self) -> "ClusterTask":
        """Wait for the end and return this task; its result stays on the cluster.

        Raises:
            EnsError: as `result` does.
        """
        self.future.exception()  # waits
        if self.future.status != "finished":
            self.result()
        return self

    def cancel(self) -> None:
        """Do not start the task, if it has not started."""
        self.future.cancel()


class Cluster:
    """A connection to a scheduler."""

    def __init__(self, client: Any) -> None:
        self._client = client

    @property
    def width(self) -> int:
        """Number of tasks that run at a time now; 0 while there is no worker."""
        return int(sum(self._client.nthreads().values()))

    @property
    def gpus(self) -> int:
        """Number of GPUs that the workers declare, by `--resources GPU=1`."""
        workers = self._client.scheduler_info(n_workers=-1)["workers"].values()
        return int(sum(worker["resources"].get("GPU", 0) for worker in workers))

    @contextlib.contextmanager
    def mapping(self, function: Callable[[slice], Any]) -> Iterator["MappedFunction"]:
        """Give an executor of a function, which is sent once, and once to each worker."""
        # The scheduler can make it again, should the worker that holds it die.
        sent = self._client.submit(unpack, pack(function), pure=False)
        yield MappedFunction(self._client, sent)

    def submit(self, work: PickledFunction, *, resources: Any = None) -> ClusterTask:
        """Start one task; its process is killed if this process ends first.

        Args:
            work: called without arguments.
            resources: that a worker must declare, such as `{"GPU": 1}`.
        """
        options = {"pure": False, "resources": resources}
        return ClusterTask(self._client.submit(call_unless_orphaned, work, **options))

    def ended(self, tasks: Sequence[ClusterTask]) -> list[ClusterTask]:
        """Wait until at least one task has ended; return those that have."""
        futures = [task.future for task in tasks]
        done = _distributed().wait(futures, return_when="FIRST_COMPLETED").done
        return [task for task in tasks if task.future in done]


class MappedFunction:
    """A function that a cluster calls on blocks."""

    def __init__(self, client: Any, sent: Any) -> None:
        self._client, self._sent = client, sent

    @property
    def width(self) -> int:
        """Number of blocks that run at a time, at least 1."""
        return max(1, int(sum(self._client.nthreads().values())))

    def submit(self, block: slice) -> ClusterTask:
        """Start one block."""
        return ClusterTask(self._client.submit(call, self._sent, block, pure=False))

    def add(self, earlier: ClusterTask, later: ClusterTask) -> ClusterTask:
        """Add the results of two tasks, on the cluster."""
        both = (earlier.future, later.future)
        return ClusterTask(self._client.submit(operator.add, *both, pure=False))

    def stop(self, tasks: Sequence[ClusterTask]) -> None:
        """Cancel tasks, and wait for those that are running: they may be writing."""
        if tasks:
            self._client.cancel([task.future for task in tasks])
            self._client.run(wait_until_idle, on_error="ignore")


_CURRENT: ContextVar[Cluster | None] = ContextVar("cluster", default=None)


def current_cluster() -> Cluster | None:
    """Return the cluster that work is sent to; None if this process does it."""
    return _CURRENT.get()


@contextlib.contextmanager
def on_cluster(address: str | None = None, workers: int = 1) -> Iterator[Cluster]:
    """Send work on blocks of images, and jobs, to a cluster within the context.

    Args:
        address: of a scheduler; None starts workers on this machine.
        workers: number of local processes, without an address.

    Raises:
        EnsError: no scheduler answers.
    """
    _distributed()  # sets its defaults, before ours
    import dask

    logging.getLogger("distributed").setLevel(logging.CRITICAL)
    with dask.config.set(SETTINGS), _client(address, workers) as client:
        cluster = Cluster(client)
        token = _CURRENT.set(cluster)
        try:
            yield cluster
        finally:
            _CURRENT.reset(token)


@contextlib.contextmanager
def _client(address: str | None, workers: int) -> Iterator[Any]:
    distributed = _distributed()
    if address is None:
        with _no_interrupts():
            local = distributed.LocalCluster(n_workers=workers, **WORKER)
        with local, distributed.Client(local) as client:
            yield client
        return
    try:
        client = distributed.Client(address, timeout=CONNECT_SECONDS)
    except (OSError, ValueError) as error:
        reason = str(error).split(";")[0]
        raise EnsError(
            f"no scheduler answers at {address!r} ({reason}); start one with `dask scheduler`"
        ) from None
    with client:
        yield client


@contextlib.contextmanager
def _no_interrupts() -> Iterator[None]:
    """Start processes that Ctrl-C in the terminal does not reach; this process ends them."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def _distributed() -> Any:
    """Import Dask where it is needed: that takes half a second."""
    return import_module("distributed")
