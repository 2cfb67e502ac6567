"""How far trainings have come: a small file beside each fold's folder, and a table of all of them.

The process that trains writes the file after each epoch, and the one that shows the table reads it,
wherever the first runs.
"""

import json
import math
import sys
import time
from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from threading import Event, Thread
from typing import TYPE_CHECKING, TypeVar

from evaluation.core.errors import format_count
from evaluation.core.progress import LINE_SECONDS, format_seconds
from evaluation.formatting import format_decimal

if TYPE_CHECKING:
    from rich.table import Table

    from members.jobs import TrainJob

Ended = TypeVar("Ended")


@dataclass(frozen=True)
class EpochReport:
    """One epoch of a training.

    Args:
        epoch: its number, from 1.
        epochs: how many there are at most.
        score: the monitored score on the holdout; higher is better, NaN if undefined.
        loss: mean of the batches.
        images: that the epoch trained on, with repetitions.
        seconds: that it took, with the holdout.
        best: the highest score so far.
    """

    epoch: int
    epochs: int
    score: float
    loss: float
    images: int
    seconds: float
    best: float = math.nan

    @property
    def seconds_left(self) -> float:
        """Until the last epoch, if patience does not end the training before."""
        return (self.epochs - self.epoch) * self.seconds

    def __str__(self) -> str:
        """Return one line."""
        score, best = format_decimal(self.score), format_decimal(self.best)
        return (
            f"epoch {self.epoch} of {self.epochs}, loss {self.loss:.3f}, holdout {score}"
            f" (best {best}), {self.images / self.seconds:.0f} images/s,"
            f" {format_seconds(self.seconds_left)} left"
        )


class ProgressFile:
    """The last epoch of a training, beside the folder that it will write.

    Args:
        folder: of the fold's weights.
    """

    def __init__(self, folder: Path) -> None:
        self.path = folder.with_name(f".{folder.name}.progress.json")

    @contextmanager
    def writing(self) -> Generator["ProgressFile", None, None]:
        """Remove the file at the end."""
        try:
            yield self
        finally:
            self.path.unlink(missing_ok=True)

    def write(self, report: EpochReport) -> None:
        """Replace the report; it keeps the best score of those before."""
        before = self.read()
        scores = [report.score, *([before.best] if before and report.epoch > 1 else [])]
        best = max((score for score in scores if not math.isnan(score)), default=math.nan)
        partial = self.path.with_suffix(".partial")
        partial.write_text(json.dumps(asdict(replace(report, best=best))), encoding="utf-8")
        partial.replace(self.path)

    def read(self) -> EpochReport | None:
        """Return the last report; None before the first, and after the training."""
        try:
            return EpochReport(**json.loads(self.path.read_text(encoding="utf-8")))
        except (OSError, ValueError, TypeError):
            return None


def show_trainings(ended: Iterator[Ended], jobs: Sequence["TrainJob"]) -> Iterator[Ended]:
    """Yield what ends, while stderr shows the trainings in progress.

    A terminal shows a table; elsewhere there is a line for each of them every half minute.

    Args:
        ended: jobs that have ended, with their outcomes.
        jobs: all of them.
    """
    from rich.console import Console  # slow to import
    from rich.live import Live

    console = Console(stderr=True)
    started, count = time.monotonic(), 0
    if not console.is_terminal:
        with _lines_of(jobs):
            yield from ended
        return

    def table() -> "Table":
        return _table(jobs, count, time.monotonic() - started)

    with Live(get_renderable=table, console=console, refresh_per_second=2, transient=True):
        for item in ended:
            yield item
            count += 1


def _running(jobs: Sequence["TrainJob"]) -> list[tuple["TrainJob", EpochReport]]:
    reports = [(job, ProgressFile(job.folder).read()) for job in jobs]
    return [(job, report) for job, report in reports if report is not None]


def _table(jobs: Sequence["TrainJob"], ended: int, seconds: float) -> "Table":
    from rich.table import Table
    from rich.text import Text

    heads = ("member", "fold", "epoch", "loss", "holdout", "best", "images/s", "left")
    table = Table(box=None, pad_edge=False, title_justify="left", title_style="")
    table.title = (
        f"{ended} of {format_count(len(jobs), 'training')} done in {format_seconds(seconds)}"
    )
    for index, head in enumerate(heads):
        table.add_column(head, justify="left" if index == 0 else "right")
    for job, report in _running(jobs):
        cells = (
            job.member.name,
            str(job.fold.index),
            f"{report.epoch}/{report.epochs}",
            f"{report.loss:.3f}",
            format_decimal(report.score),
            format_decimal(report.best),
            f"{report.images / report.seconds:.0f}",
            format_seconds(report.seconds_left),
        )
        table.add_row(*(Text(cell) for cell in cells))
    return table


@contextmanager
def _lines_of(jobs: Sequence["TrainJob"]) -> Generator[None, None, None]:
    """Write a line for each training in progress every half minute."""
    stop = Event()

    def write() -> None:
        while not stop.wait(LINE_SECONDS):
            for job, report in _running(jobs):
                sys.stderr.write(f"training: {job.name}: {report}\n")

    thread = Thread(target=write, daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()
