"""Work on blocks of images: in order, by threads or a cluster, with flat memory."""

import contextlib
import functools
import operator
import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Protocol, TypeVar, runtime_checkable

from evaluation.core.cluster import current_cluster
from evaluation.core.errors import EnsError
from evaluation.core.memory import blocks_at_a_time
from evaluation.core.progress import progress
from evaluation.core.ragged import BLOCK_IMAGES, Extent

Result = TypeVar("Result")


@runtime_checkable
class BlockExecutor(Protocol):
    """Calls a function on blocks: threads, or a cluster."""

    @property
    def width(self) -> int:
        """Number of blocks that run at a time."""
        ...

    def submit(self, block: slice) -> Any:
        """Start one block; return a task, which has `result()`."""
        ...

    def stop(self, tasks: Sequence[Any]) -> None:
        """Cancel tasks as soon as possible."""
        ...


def blocks(images: int | Extent, size: int = BLOCK_IMAGES) -> list[slice]:
    """Cut images into consecutive slices of `size`; the last one may be shorter.

    Args:
        images: their number, or their extent: then no slice crosses sizes or has more than
            `BLOCK_PIXELS` pixels, but each has an image.
        size: images per slice.

    Examples:
        >>> blocks(5, 2)
        [slice(0, 2, None), slice(2, 4, None), slice(4, 5, None)]
    """
    if isinstance(images, Extent):
        return images.blocks(size)
    return [slice(start, min(start + size, images)) for start in range(0, images, size)]


def map_blocks(
    function: Callable[[slice], Result],
    images: int | Extent,
    *,
    size: int = BLOCK_IMAGES,
    threads: int | None = None,
    pixel_bytes: int = 0,
    local: bool = False,
) -> Iterator[Result]:
    """Yield `function(block)` for each block of images, in order.

    At most two blocks per thread are running or waiting, so memory does not grow with the number
    of images, whether the function or the consumer of the results is slower.

    Args:
        function: called from several threads at once; within `on_cluster`, by other processes,
            which get a copy of it and send back what it returns.
        images: number of images, or their extent; see `blocks`.
        size: images per block.
        threads: in this process; by default as many as there are cores, and no more than
            `blocks_at_a_time` says.
        pixel_bytes: what a block takes per pixel of an extent while it is worked on.
        local: run in this process even within `on_cluster`, for reading what is used here.

    Raises:
        EnsError: as the function does; with several blocks the message names the block.
    """
    if threads is None and isinstance(images, Extent):
        threads = blocks_at_a_time(images, pixel_bytes, size)
    cluster = None if local else current_cluster()
    executor = cluster.mapping(function) if cluster else _threads(function, threads)
    with executor as many:
        yield from _results_in_order(many, blocks(images, size), lambda task: task.result())


def sum_blocks(
    function: Callable[[slice], Result],
    images: int | Extent,
    *,
    size: int = BLOCK_IMAGES,
    threads: int | None = None,
    what: str | None = None,
) -> Result:
    """Return the sum of `function(block)` over all blocks of images.

    The sum is a tree over the block numbers, so it is the same to the last bit for any number of
    threads or workers, whichever finishes first. A cluster adds too, and only the sum is sent
    back. Locally, at most one partial sum per power of two of blocks is kept.

    The arguments are those of `map_blocks`; `what` labels a progress bar (None for none). Results
    are added by `+`; without any image the function is called on `slice(0, 0)`.

    Raises:
        EnsError: as `map_blocks` does.
    """
    parts = blocks(images, size) or [slice(0, 0)]
    bar = functools.partial(progress, what=what, total=len(parts)) if what else iter
    total: Result
    if (cluster := current_cluster()) is None:
        with _threads(function, threads) as many:
            results = _results_in_order(many, parts, lambda task: task.result())
            total = pairwise_reduce(bar(results), operator.add)
        return total
    with cluster.mapping(function) as remote:
        tasks = _results_in_order(remote, parts, lambda task: task.wait())
        total = pairwise_reduce(bar(tasks), remote.add).result()
    return total


def pairwise_reduce(parts: Iterable[Result], add: Callable[[Result, Result], Result]) -> Result:
    """Add parts as they come, neighbours first, then neighbouring sums of equally many parts.

    Args:
        parts: one or more.
        add: returns the sum of an earlier and a later part.
    """
    sums: list[tuple[int, Result]] = []  # (number of parts, sum), as digits of a binary count
    for part in parts:
        sums.append((1, part))
        while len(sums) > 1 and sums[-2][0] == sums[-1][0]:
            (count, earlier), (_, later) = sums[-2:]
            sums[-2:] = [(2 * count, add(earlier, later))]
    _, total = sums.pop()
    while sums:
        total = add(sums.pop()[1], total)
    return total


def _results_in_order(
    executor: BlockExecutor, parts: Sequence[slice], take: Callable[[Any], Result]
) -> Iterator[Result]:
    """Yield `take(task)` of each block in order; few tasks run or wait at a time."""
    waiting: deque[tuple[slice, Any]] = deque()

    def first() -> Result:
        block, task = waiting.popleft()
        try:
            return take(task)
        except Exception as error:
            if len(parts) > 1:
                _annotate(error, f"block {block.start}:{block.stop}")
            raise

    try:
        for block in parts:
            waiting.append((block, executor.submit(block)))
            if len(waiting) >= 2 * executor.width:
                yield first()
        while waiting:
            yield first()
    finally:
        executor.stop([task for _, task in waiting])


def _annotate(error: Exception, where: str) -> None:
    """Add where it happened: to the message that a user reads, or below a traceback."""
    if isinstance(error, EnsError):
        error.args = (f"{error} ({where})",)
    else:
        error.add_note(where)


class _Threads:
    def __init__(self, function: Callable[[slice], Any], pool: ThreadPoolExecutor, width: int):
        self._function, self._pool, self.width = function, pool, width

    def submit(self, block: slice) -> Any:
        return self._pool.submit(self._function, block)

    def stop(self, tasks: Sequence[Any]) -> None:
        for task in tasks:
            task.cancel()


@contextlib.contextmanager
def _threads(function: Callable[[slice], Any], threads: int | None) -> Iterator[BlockExecutor]:
    width = threads or os.cpu_count() or 1
    with ThreadPoolExecutor(width) as pool:
        yield _Threads(function, pool, width)
