"""How much memory the blocks that are worked on together may take.

Blocks themselves are fixed, so that results do not depend on the budget: it decides how many of
them are worked on at a time.
"""

import contextlib
import os
import re
from collections.abc import Iterator
from contextvars import ContextVar
from pathlib import Path

from evaluation.core.errors import BadSpec
from evaluation.core.ragged import BLOCK_IMAGES, Extent

SHARE = 4
"""By default, one part in so many of what is free."""

UNITS = {"KB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12}
UNITS |= {"KIB": 2**10, "MIB": 2**20, "GIB": 2**30, "TIB": 2**40}
SIZE = re.compile(r"(\d+(?:\.\d+)?) ?([KMGT]I?B)", re.ASCII)

MEMINFO = Path("/proc/meminfo")

_limit: ContextVar[int | None] = ContextVar("memory_limit", default=None)


def parse_size(text: str) -> int:
    """Return a size in bytes from a number with a unit.

    Raises:
        BadSpec: it is none, or less than a byte.

    Examples:
        >>> parse_size("2GB"), parse_size("1.5 MiB")
        (2000000000, 1572864)
    """
    match = SIZE.fullmatch(text.strip().upper())
    size = int(float(match[1]) * UNITS[match[2]]) if match else 0
    if not size:
        raise BadSpec(f"size {text!r}; expected a number with a unit, such as 2GB or 500MB")
    return size


@contextlib.contextmanager
def memory_limit(size_bytes: int | None) -> Iterator[None]:
    """Limit the memory of the blocks in progress; None is a quarter of what is free."""
    token = _limit.set(size_bytes)
    try:
        yield
    finally:
        _limit.reset(token)


def memory_budget() -> int:
    """Return the bytes that the blocks in progress may take together."""
    limit = _limit.get()
    return free_bytes() // SHARE if limit is None else limit


def free_bytes() -> int:
    """Return the memory that new work can have without swapping, in bytes."""
    if MEMINFO.is_file():
        for line in MEMINFO.read_text(encoding="ascii").splitlines():
            if line.startswith("MemAvailable:"):
                return 1024 * int(line.split()[1])
    return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def blocks_at_a_time(extent: Extent, pixel_bytes: int, size: int = BLOCK_IMAGES) -> int:
    """Return how many blocks are worked on together: one at least, and a core has one at most.

    Args:
        extent: number and sizes of the images.
        pixel_bytes: what a block takes per pixel while it is worked on.
        size: images per block.
    """
    largest = extent.largest_block(size)
    return max(1, min(os.cpu_count() or 1, memory_budget() // max(1, pixel_bytes * largest)))
