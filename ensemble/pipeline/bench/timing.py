"""Benchmark alternatives in turns on the same machine."""

import os
import platform
import statistics
import time
from collections.abc import Callable, Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

Contenders = Mapping[str, Callable[[], object]]


def interleaved(
    contenders: Contenders, rounds: int, *, clock: Callable[[], float] = time.perf_counter
) -> dict[str, list[float]]:
    """Return the seconds of each round, by name; each contender runs once per round.

    So all see the same load of the machine. The one that starts changes from round to round, since
    what runs after another finds its caches. A first round, which warms files and code, is not
    counted.
    """
    names = list(contenders)
    for name in names:
        contenders[name]()
    seconds: dict[str, list[float]] = {name: [] for name in names}
    for number in range(rounds):
        first = number % len(names)
        for name in names[first:] + names[:first]:
            start = clock()
            contenders[name]()
            seconds[name].append(clock() - start)
    return seconds


def compared(seconds: Mapping[str, list[float]], against: str) -> dict[str, dict[str, float]]:
    """Return median, minimum and their ratios to those of one contender: above 1 is slower."""
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
    """Describe the machine and the versions of a measurement."""
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
