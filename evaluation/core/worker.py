"""What runs in the workers of a cluster."""

import asyncio
import functools
import os
import signal
import threading
import time
from collections.abc import Mapping
from importlib import import_module
from typing import Any

from threadpoolctl import threadpool_limits

from evaluation.core.function_pickle import PickledFunction

REST_SECONDS, REST_STEP = 60, 0.1
WATCH_SECONDS = 0.2


def unpack(parcel: PickledFunction) -> PickledFunction:
    """Return a parcel, which stays with the worker for the tasks that call it."""
    return parcel


def call(parcel: PickledFunction, *arguments: Any) -> Any:
    """Call what a parcel holds."""
    _settle()
    with _Running():
        return parcel(*arguments)


def call_unless_orphaned(parcel: PickledFunction, *arguments: Any) -> Any:
    """Call what a parcel holds; end this process when nobody waits for the result any more.

    A job may take hours. The process that waited may have been killed or interrupted, and another
    be about to do the same: what goes on here would be in its way. The nanny starts a new process.
    """
    done = threading.Event()
    worker = import_module("distributed").get_worker()
    if worker.nanny:
        watched = (worker.state.tasks, worker.get_current_task(), done)
        threading.Thread(target=_end_unwanted, args=watched, daemon=True).start()
    try:
        return call(parcel, *arguments)
    finally:
        done.set()


def _end_unwanted(tasks: Mapping[str, Any], key: str, done: threading.Event) -> None:
    while not done.wait(WATCH_SECONDS):
        task = tasks.get(key)
        if not done.is_set() and (task is None or task.state == "cancelled"):
            os.kill(os.getpid(), signal.SIGKILL)


async def come_to_rest() -> None:
    """Wait until no task runs in this process; for others' no longer than `REST_SECONDS`."""
    end = time.monotonic() + REST_SECONDS
    await asyncio.sleep(REST_STEP)  # what was cancelled may just be beginning
    while _Running.now and time.monotonic() < end:
        await asyncio.sleep(REST_STEP)


class _Running:
    """Counts the tasks that run in this process."""

    now = 0
    _lock = threading.Lock()

    def __enter__(self) -> None:
        with self._lock:
            _Running.now += 1

    def __exit__(self, *_: object) -> None:
        with self._lock:
            _Running.now -= 1


@functools.cache
def _settle() -> None:
    """Give each task one core, once for a process: as many tasks run as there are cores."""
    threadpool_limits(1)
