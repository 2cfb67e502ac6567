"""Ways of doing the same thing, timed in turns on the same machine."""

import os
import platform
import statistics
import time
from collections.abc import Callable, Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

Sides = Mapping[str, Callable[[], object]]


def in_turns(
    sides: Sides, rounds: int, *, clock: Callable[[], float] = time.perf_counter
) -> dict[str, list[float]]:
    """Time each side once a round, so that all see the same good and bad moments of the machine.

    The side that begins changes from round to round, since what runs after another finds its
    caches. A round before the first is not counted: it warms files and code.

    Args:
        sides: what to time, by name.
        rounds: how often.
        clock: tells seconds.

    Returns:
        Seconds of each round, by name.
    """
    names = list(sides)
    for name in names:
        sides[name]()
    seconds: dict[str, list[float]] = {name: [] for name in names}
    for number in range(rounds):
        first = number % len(names)
        for name in names[first:] + names[:first]:
            started = clock()
            sides[name]()
            seconds[name].append(clock() - started)
    return seconds


def compared(seconds: Mapping[str, list[float]], against: str) -> dict[str, dict[str, float]]:
    """Return median, minimum and the ratio of medians to one side's, by name."""
    base = statistics.median(seconds[against])
    return {
        name: {
            "median_s": statistics.median(times),
            "minimum_s": min(times),
            "ratio": statistics.median(times) / base,
            "ratio_of_minima": min(times) / min(seconds[against]),
        }
        for name, times in seconds.items()
    }


def machine() -> dict[str, Any]:
    """Describe where something was measured."""
    return {
        "processor": _processor(),
        "cores": os.cpu_count(),
        "load": os.getloadavg()[0],
        "system": platform.platform(terse=True),
        "python": platform.python_version(),
        **{name: version(name) for name in ("ens", "numpy", "torch")},
    }


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.is_file() else []
    named = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return named[0] if named else platform.processor()
