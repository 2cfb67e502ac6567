"""Work on blocks of pictures: in order, by threads, with flat memory."""

import os
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

Result = TypeVar("Result")

BLOCK_PICTURES = 64


def blocks(pictures: int, size: int = BLOCK_PICTURES) -> list[slice]:
    """Cut `pictures` into consecutive slices of `size`; the last one may be shorter."""
    return [slice(start, min(start + size, pictures)) for start in range(0, pictures, size)]


def map_blocks(
    function: Callable[[slice], Result],
    pictures: int,
    *,
    size: int = BLOCK_PICTURES,
    threads: int | None = None,
) -> Iterator[Result]:
    """Yield `function(block)` for each block of pictures, in order.

    At most two blocks a thread are under way or waiting, so memory does not grow with the number
    of pictures, whoever is slower: the function or the one who takes the results.

    Args:
        function: called from several threads at once.
        pictures: how many pictures there are.
        size: pictures a block.
        threads: how many at a time; the number of cores by default.
    """
    threads = threads or os.cpu_count() or 1
    waiting: deque[Future[Result]] = deque()
    with ThreadPoolExecutor(threads) as pool:
        try:
            for block in blocks(pictures, size):
                waiting.append(pool.submit(function, block))
                if len(waiting) >= 2 * threads:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()
