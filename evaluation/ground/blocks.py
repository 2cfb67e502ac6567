"""Work on blocks of pictures: in order, by threads or a cluster, with flat memory."""

import contextlib
import os
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Protocol, TypeVar

from evaluation.ground.cluster import current
from evaluation.ground.errors import EnsError

Result = TypeVar("Result")

BLOCK_PICTURES = 64


class Hands(Protocol):
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


def blocks(pictures: int, size: int = BLOCK_PICTURES) -> list[slice]:
    """Cut `pictures` into consecutive slices of `size`; the last one may be shorter."""
    return [slice(start, min(start + size, pictures)) for start in range(0, pictures, size)]


def map_blocks(
    function: Callable[[slice], Result],
    pictures: int,
    *,
    size: int = BLOCK_PICTURES,
    threads: int | None = None,
    here: bool = False,
) -> Iterator[Result]:
    """Yield `function(block)` for each block of pictures, in order.

    At most two blocks a thread are under way or waiting, so memory does not grow with the number
    of pictures, whoever is slower: the function or the one who takes the results.

    Args:
        function: called from several threads at once; within `on_cluster`, by other processes,
            which get a copy of it and give back what it returns.
        pictures: how many pictures there are.
        size: pictures a block.
        threads: how many at a time in this process; the number of cores by default.
        here: stay in this process, cluster or not: for reading what is used here.

    Raises:
        EnsError: as the function does; on a cluster it names the block.
    """
    cluster = None if here else current()
    hands = cluster.mapping(function) if cluster else _threads(function, threads)
    waiting: deque[tuple[slice, Any]] = deque()
    with hands as many:
        try:
            for block in blocks(pictures, size):
                waiting.append((block, many.submit(block)))
                if len(waiting) >= 2 * many.width:
                    yield _result(*waiting.popleft())
            while waiting:
                yield _result(*waiting.popleft())
        finally:
            many.stop([task for _, task in waiting])


class _Threads:
    def __init__(self, function: Callable[[slice], Any], pool: ThreadPoolExecutor, width: int):
        self._function, self._pool, self.width = function, pool, width

    def submit(self, block: slice) -> Any:
        return self._pool.submit(self._function, block)

    def stop(self, tasks: Sequence[Any]) -> None:
        for task in tasks:
            task.cancel()


@contextlib.contextmanager
def _threads(function: Callable[[slice], Any], threads: int | None) -> Iterator[Hands]:
    width = threads or os.cpu_count() or 1
    with ThreadPoolExecutor(width) as pool:
        yield _Threads(function, pool, width)


def _result(block: slice, task: Any) -> Any:
    try:
        return task.result()
    except EnsError:
        raise
    except Exception as error:
        error.add_note(f"block {block.start}:{block.stop}")
        raise
