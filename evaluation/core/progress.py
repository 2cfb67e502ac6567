"""What is told of long work: lines of text, and a bar with the time left on stderr."""

import sys
import time
from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

Item = TypeVar("Item")

Log = Callable[[str], None]
"""Receives a line of text on what is done or left out."""

LINE_SECONDS = 30.0
"""Between lines of progress where stderr is no terminal."""


def progress(items: Iterable[Item], what: str, total: int) -> Iterator[Item]:
    """Yield the items while stderr shows how many are done.

    A terminal shows a bar; elsewhere there is a line every half minute.
    """
    if not sys.stderr.isatty():
        yield from _with_lines(items, what, total)
        return
    from rich import progress as bars  # slow to import
    from rich.console import Console

    with bars.Progress(
        bars.TextColumn("{task.description}"),
        bars.BarColumn(),
        bars.MofNCompleteColumn(),
        bars.TimeRemainingColumn(),
        console=Console(stderr=True),
        transient=True,
    ) as bar:
        task = bar.add_task(what, total=total)
        for item in items:
            yield item
            bar.advance(task)


def _with_lines(items: Iterable[Item], what: str, total: int) -> Iterator[Item]:
    started = told = time.monotonic()
    for done, item in enumerate(items, 1):
        yield item
        now = time.monotonic()
        if now - told >= LINE_SECONDS and done < total:
            left = format_seconds((now - started) / done * (total - done))
            sys.stderr.write(f"{what}: {done} of {total}, {left} left\n")
            told = now


def format_seconds(seconds: float) -> str:
    """Write a duration for reading.

    Examples:
        >>> [format_seconds(s) for s in (41.2, 200.0, 8000.0)]
        ['41 s', '3 min', '2.2 h']
    """
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 6000 else f"{seconds / 3600:.1f} h"
