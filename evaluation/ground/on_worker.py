"""What runs in the workers of a cluster."""

import asyncio
import functools
import threading
import time
from typing import Any

from threadpoolctl import threadpool_limits

from evaluation.ground.parcels import Parcel

REST_SECONDS, REST_STEP = 60, 0.1


def arrived(parcel: Parcel) -> Parcel:
    """Return a parcel, which stays with the worker for the tasks that call it."""
    return parcel


def called(parcel: Parcel, *arguments: Any) -> Any:
    """Call what a parcel holds."""
    _settle()
    with _Running():
        return parcel(*arguments)


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
