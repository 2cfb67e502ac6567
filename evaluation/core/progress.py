"""What is told of long work: lines of text, and a bar with the time left on stderr."""

from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

Item = TypeVar("Item")

Log = Callable[[str], None]
"""Receives a line of text on what is done or left out."""


def progress(items: Iterable[Item], what: str, total: int) -> Iterator[Item]:
    """Yield the items while a bar shows how many are done; no bar if stderr is not a terminal."""
    from rich import progress as bars  # slow to import
    from rich.console import Console

    console = Console(stderr=True)
    with bars.Progress(
        bars.TextColumn("{task.description}"),
        bars.BarColumn(),
        bars.MofNCompleteColumn(),
        bars.TimeRemainingColumn(),
        console=console,
        transient=True,
        disable=not console.is_terminal,
    ) as bar:
        task = bar.add_task(what, total=total)
        for item in items:
            yield item
            bar.advance(task)
