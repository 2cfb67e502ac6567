"""What results show in a notebook: figures of the report, and its images."""

import base64
import html
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import numpy as np

from evaluation.core.errors import BadSpec
from evaluation.core.files import atomic_file
from evaluation.core.types import Array

if TYPE_CHECKING:
    from evaluation.core.classes import Classes
    from evaluation.leaderboard import Leaderboard
    from evaluation.report.figures import Drawing

GALLERY_PX = 720
"""Height of a gallery in a notebook."""


@dataclass(frozen=True)
class Picture:
    """A PNG, which a notebook shows.

    Args:
        png: its bytes.
    """

    png: bytes = field(repr=False)

    def _repr_png_(self) -> bytes:
        return self.png

    def save(self, path: str | Path) -> None:
        """Write it to a new PNG file.

        Raises:
            BadSpec: another ending.
        """
        with atomic_file(_ending_in(".png", path)) as partial:
            partial.write_bytes(self.png)


@dataclass(frozen=True)
class Gallery:
    """The images of a report: stages side by side, errors, uncertainty, filters; in a notebook.

    Args:
        page: HTML that needs nothing else.
    """

    page: str = field(repr=False)

    def _repr_html_(self) -> str:
        return (
            f'<iframe style="width: 100%; height: {GALLERY_PX}px; border: 0"'
            f' srcdoc="{html.escape(self.page)}"></iframe>'
        )

    def save(self, path: str | Path) -> None:
        """Write it as an HTML page that opens from disk.

        Raises:
            BadSpec: another ending.
        """
        with atomic_file(_ending_in(".html", path)) as partial:
            partial.write_text(self.page, encoding="utf-8")


def forest_plot(board: "Leaderboard") -> str:
    """Return the scores of all candidates with their intervals, as HTML."""
    from evaluation.report.figures import Estimate, dot_rows
    from evaluation.run_metric import metric_label

    rows = [row for row in board.rows if np.isfinite(row.examined)]
    scores = [
        Estimate(row.examined)
        if row.interval is None
        else Estimate(row.examined, row.interval.low, row.interval.high)
        for row in rows
    ]
    metric, names = metric_label(board.protocol), [row.name for row in rows]
    if not rows:
        return ""
    drawing = dot_rows("scores", names, {metric: scores}, what="candidate", axis=metric)
    return _as_html(drawing, "scores of the candidates, with intervals")


def confusion_plot(counts: Array, classes: "Classes") -> str:
    """Return the confusion matrix, in shares of each target class, as HTML."""
    from evaluation.report.figures import matrix

    totals = counts.sum(axis=1, keepdims=True)
    shares = np.where(totals > 0, counts / np.maximum(1, totals), np.nan)
    scored = list(classes.scored)
    names = list(classes.names)
    rows = [names[label] for label in scored]
    drawing = matrix("confusion", rows, names, shares[scored], axes=("target", "predicted"))
    return _as_html(drawing, "share of each target class by predicted class")


def draw_overlay(
    path: Path, candidates: tuple[str, ...], split: str, ids: tuple[str, ...], count: int
) -> Picture:
    """Draw candidates' labels over images of a run."""
    from ensemble.pipeline.report.overlay import overlay
    from evaluation.core.run_folder import Run

    with TemporaryDirectory() as folder:
        file = Path(folder) / "overlay.png"
        overlay(Run(path), candidates, split, file, errors_of=candidates[-1:], ids=ids, count=count)
        return Picture(file.read_bytes())


def draw_gallery(path: Path, candidate: str, split: str) -> Gallery:
    """Return the images of a run's candidate."""
    from ensemble.pipeline.report.report import gallery_page
    from evaluation.core.run_folder import Run
    from evaluation.report.page import write_page

    with TemporaryDirectory() as folder:
        file = Path(folder) / "gallery.html"
        write_page(file, gallery_page(Run(path), split, candidate))
        return Gallery(file.read_text(encoding="utf-8"))


def _ending_in(ending: str, path: str | Path) -> Path:
    if Path(path).suffix != ending:
        raise BadSpec(f"{path} does not end in {ending}, which is what is written")
    return Path(path)


def _as_html(drawing: "Drawing", alt: str) -> str:
    """Return a figure that neither changes the notebook's styles nor is changed by them."""
    from evaluation.report.svg import standalone

    coded = base64.b64encode(standalone(drawing.svg).encode()).decode()
    style = "width: 36rem; max-width: 100%; display: block"
    return f'<img alt="{alt}" style="{style}" src="data:image/svg+xml;base64,{coded}">'
