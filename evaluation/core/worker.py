"""Functions that run in the workers of a cluster."""

import asyncio
import functools
import os
import signal
import threading
import time
from collections.abc import Mapping
from importlib import import_module
from typing import Any

from evaluation.core.function_pickle import PickledFunction
from evaluation.core.threads import single_thread

IDLE_SECONDS, IDLE_POLL_SECONDS = 60, 0.1
WATCH_SECONDS = 0.2


def unpack(function: PickledFunction) -> PickledFunction:
    """Return a function as it is; the worker keeps it for the tasks that call it."""
    return function


def call(function: PickledFunction, *arguments: Any) -> Any:
    """Call a function on one core."""
    _limit_threads()
    with RunningTasks():
        return function(*arguments)


def call_unless_orphaned(function: PickledFunction, *arguments: Any) -> Any:
    """Call a function; kill this process when its result is no longer wanted.

    A job may take hours. If the process that waits for it is killed and the command is run again,
    the old job would write into the same folder as the new one. The nanny starts a new process.
    """
    done = threading.Event()
    worker = import_module("distributed").get_worker()
    if worker.nanny:
        watched = (worker.state.tasks, worker.get_current_task(), done)
        threading.Thread(target=_kill_if_unwanted, args=watched, daemon=True).start()
    try:
        return call(function, *arguments)
    finally:
        done.set()


def _kill_if_unwanted(tasks: Mapping[str, Any], key: str, done: threading.Event) -> None:
    while not done.wait(WATCH_SECONDS):
        task = tasks.get(key)
        if not done.is_set() and (task is None or task.state == "cancelled"):
            os.kill(os.getpid(), signal.SIGKILL)


async def wait_until_idle() -> None:
    """Wait until no task runs in this process, at most `IDLE_SECONDS`."""
    end = time.monotonic() + IDLE_SECONDS
    await asyncio.sleep(IDLE_POLL_SECONDS)  # a cancelled task may just be starting
    while RunningTasks.now and time.monotonic() < end:
        await asyncio.sleep(IDLE_POLL_SECONDS)


class RunningTasks:
    """Counts the tasks that run in this process."""

    now = 0
    _lock = threading.Lock()

    def __enter__(self) -> None:
        with self._lock:
            RunningTasks.now += 1

    def __exit__(self, *_: object) -> None:
        with self._lock:
            RunningTasks.now -= 1


@functools.cache
def _limit_threads() -> None:
    """Give each task one core, once per process: as many tasks run as there are cores."""
    single_thread()
