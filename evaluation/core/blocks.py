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
from evaluation.core.progress import progress

Result = TypeVar("Result")

BLOCK_IMAGES = 64


@runtime_checkable
class BlockExecutor(Protocol):
    """Whoever calls a function on blocks: threads, or a cluster."""

    @property
    def width(self) -> int:
        """How many blocks are worked on at a time."""
        ...

    def submit(self, block: slice) -> Any:
        """Begin one block; return what has `result()`."""
        ...

    def stop(self, tasks: Sequence[Any]) -> None:
        """End what was begun, as soon as can be."""
        ...


def blocks(images: int, size: int = BLOCK_IMAGES) -> list[slice]:
    """Cut `images` into consecutive slices of `size`; the last one may be shorter."""
    return [slice(start, min(start + size, images)) for start in range(0, images, size)]


def map_blocks(
    function: Callable[[slice], Result],
    images: int,
    *,
    size: int = BLOCK_IMAGES,
    threads: int | None = None,
    here: bool = False,
) -> Iterator[Result]:
    """Yield `function(block)` for each block of images, in order.

    At most two blocks a thread are under way or waiting, so memory does not grow with the number
    of images, whoever is slower: the function or the one who takes the results.

    Args:
        function: called from several threads at once; within `on_cluster`, by other processes,
            which get a copy of it and give back what it returns.
        images: how many images there are.
        size: images a block.
        threads: how many at a time in this process; the number of cores by default.
        here: stay in this process, cluster or not: for reading what is used here.

    Raises:
        EnsError: as the function does; where there are several blocks it names the one.
    """
    cluster = None if here else current_cluster()
    hands = cluster.mapping(function) if cluster else _threads(function, threads)
    with hands as many:
        yield from _taken(many, blocks(images, size), lambda task: task.result())


def sum_blocks(
    function: Callable[[slice], Result],
    images: int,
    *,
    size: int = BLOCK_IMAGES,
    threads: int | None = None,
    what: str | None = None,
) -> Result:
    """Add up `function(block)` over all blocks of images.

    The sum is a tree over the numbers of the blocks, so it is the same to the last bit by any
    number of threads or workers, whichever ends first. A cluster adds as well, and only the sum
    comes back. Here a partial sum is kept for each power of two of blocks at most.

    Args:
        function: as for `map_blocks`; its results are added by `+`. Without an image it is called
            on `slice(0, 0)`.
        images: as for `map_blocks`.
        size: as for `map_blocks`.
        threads: as for `map_blocks`.
        what: a bar is called while it goes on; None for no bar.

    Raises:
        EnsError: as `map_blocks` does.
    """
    cut = blocks(images, size) or [slice(0, 0)]
    shown = functools.partial(progress, what=what, total=len(cut)) if what else iter
    found: Result
    if (cluster := current_cluster()) is None:
        with _threads(function, threads) as many:
            found = pairwise_reduce(
                shown(_taken(many, cut, lambda task: task.result())), operator.add
            )
        return found
    with cluster.mapping(function) as there:
        total = pairwise_reduce(shown(_taken(there, cut, lambda task: task.settled())), there.add)
        found = total.result()
    return found


def pairwise_reduce(parts: Iterable[Result], add: Callable[[Result, Result], Result]) -> Result:
    """Add parts as they come, neighbours first, then neighbouring sums of as many parts.

    Args:
        parts: one or more.
        add: gives the sum of an earlier part and a later one.
    """
    sums: list[tuple[int, Result]] = []  # (how many parts, their sum), as digits of a binary count
    for part in parts:
        sums.append((1, part))
        while len(sums) > 1 and sums[-2][0] == sums[-1][0]:
            (count, earlier), (_, later) = sums[-2:]
            sums[-2:] = [(2 * count, add(earlier, later))]
    _, total = sums.pop()
    while sums:
        total = add(sums.pop()[1], total)
    return total


def _taken(
    many: BlockExecutor, cut: Sequence[slice], take: Callable[[Any], Result]
) -> Iterator[Result]:
    """Yield what is taken of each block's task, in order, few under way at a time."""
    waiting: deque[tuple[slice, Any]] = deque()

    def first() -> Result:
        block, task = waiting.popleft()
        try:
            return take(task)
        except Exception as error:
            if len(cut) > 1:
                _name(error, block)
            raise

    try:
        for block in cut:
            waiting.append((block, many.submit(block)))
            if len(waiting) >= 2 * many.width:
                yield first()
        while waiting:
            yield first()
    finally:
        many.stop([task for _, task in waiting])


def _name(error: Exception, block: slice) -> None:
    """Say where it happened: a user reads the message, a traceback ends with the notes."""
    name = f"block {block.start}:{block.stop}"
    if isinstance(error, EnsError):
        error.args = (f"{error} ({name})",)
    else:
        error.add_note(name)


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
