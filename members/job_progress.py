"""How far trainings and predictions have come: a small file of each, and a table of all of them.

The process that works writes the file beside the folder that it makes, after each epoch or block,
and the one that shows the table reads it, wherever the first runs.
"""

import json
import math
import sys
import time
from collections.abc import Callable, Generator, Iterator, Sequence
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

    from members.jobs import Job

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

    def cells(self) -> dict[str, str]:
        """Return the cells of a table, by heading."""
        return {
            "epoch": f"{self.epoch}/{self.epochs}",
            "loss": f"{self.loss:.3f}",
            "holdout": format_decimal(self.score),
            "best": format_decimal(self.best),
            "images/s": f"{self.images / self.seconds:.0f}",
            "left": format_seconds(self.seconds_left),
        }

    def __str__(self) -> str:
        """Return one line."""
        score, best = format_decimal(self.score), format_decimal(self.best)
        return (
            f"epoch {self.epoch} of {self.epochs}, loss {self.loss:.3f}, holdout {score}"
            f" (best {best}), {self.images / self.seconds:.0f} images/s,"
            f" {format_seconds(self.seconds_left)} left"
        )


@dataclass(frozen=True)
class PredictionReport:
    """The images whose maps are written.

    Args:
        images: that are done, those of an interrupted prediction included.
        total: to be done.
        rate: images per second of this prediction.
    """

    images: int
    total: int
    rate: float

    def cells(self) -> dict[str, str]:
        """Return the cells of a table, by heading."""
        return {
            "images": f"{self.images}/{self.total}",
            "images/s": f"{self.rate:.0f}",
            "left": format_seconds((self.total - self.images) / self.rate),
        }

    def __str__(self) -> str:
        """Return one line."""
        cells = self.cells()
        return (
            f"{self.images} of {self.total} images, {cells['images/s']} images/s,"
            f" {cells['left']} left"
        )


Report = EpochReport | PredictionReport


class ProgressFile:
    """The last report of a job, beside the folder that it will write.

    Args:
        folder: of the job.
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

    def write(self, report: Report) -> None:
        """Replace the report; that of an epoch keeps the best score of those before."""
        if isinstance(report, EpochReport):
            before = self.read()
            scores = [report.score]
            if isinstance(before, EpochReport) and report.epoch > 1:
                scores.append(before.best)
            best = max((score for score in scores if not math.isnan(score)), default=math.nan)
            report = replace(report, best=best)
        partial = self.path.with_suffix(".partial")
        partial.write_text(json.dumps(asdict(report)), encoding="utf-8")
        partial.replace(self.path)

    def read(self) -> Report | None:
        """Return the last report; None before the first, and after the job."""
        try:
            content = json.loads(self.path.read_text(encoding="utf-8"))
            return EpochReport(**content) if "epoch" in content else PredictionReport(**content)
        except (OSError, ValueError, TypeError):
            return None


def show_jobs(ended: Iterator[Ended], jobs: Sequence["Job"], what: str) -> Iterator[Ended]:
    """Yield what ends, while stderr shows the jobs in progress.

    A terminal shows a table; elsewhere there is a line for each of them every half minute.

    Args:
        ended: jobs that have ended, with their outcomes.
        jobs: all of them.
        what: is done, such as `training`.
    """
    from rich.console import Console  # slow to import
    from rich.live import Live

    for job in jobs:  # that a killed process left
        ProgressFile(job.folder).path.unlink(missing_ok=True)
    console = Console(stderr=True)
    started, count = time.monotonic(), 0

    def done() -> str:
        passed = format_seconds(time.monotonic() - started)
        return f"{what}: {count} of {format_count(len(jobs), 'job')} done in {passed}"

    shown = (
        Live(
            get_renderable=lambda: _table(jobs, done()),
            console=console,
            refresh_per_second=2,
            transient=True,
        )
        if console.is_terminal
        else _lines_of(jobs, what, done)
    )
    with shown:
        for item in ended:
            yield item
            count += 1


def _running(jobs: Sequence["Job"]) -> list[tuple["Job", Report]]:
    reports = [(job, ProgressFile(job.folder).read()) for job in jobs]
    return [(job, report) for job, report in reports if report is not None]


def _table(jobs: Sequence["Job"], title: str) -> "Table":
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, title=title, title_justify="left", title_style="")
    rows = [{"job": job.name, **report.cells()} for job, report in _running(jobs)]
    for head in rows[0] if rows else ():
        table.add_column(head, justify="left" if head == "job" else "right")
    for row in rows:
        table.add_row(*map(Text, row.values()))
    return table


@contextmanager
def _lines_of(
    jobs: Sequence["Job"], what: str, done: Callable[[], str]
) -> Generator[None, None, None]:
    """Write how many jobs are done, and a line for each in progress, every half minute."""
    stop = Event()

    def write() -> None:
        while not stop.wait(LINE_SECONDS):
            lines = [f"{what}: {job.name}: {report}\n" for job, report in _running(jobs)]
            sys.stderr.write("".join([f"{done()}\n", *lines]) if lines else "")

    thread = Thread(target=write, daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()
