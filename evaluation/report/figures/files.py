"""Figures of the page as files of their own, for papers and READMEs."""

from collections.abc import Iterable
from pathlib import Path

from evaluation.ground.errors import BadData
from evaluation.ground.files import whole_file
from evaluation.report.figures.drawing import standalone
from evaluation.report.page import Figure


def refuse_file(folder: Path) -> None:
    """Refuse a folder for figures that is none, before any work.

    Raises:
        BadData: such a folder.
    """
    if folder.exists() and not folder.is_dir():
        raise BadData(f"--figures {folder} is a file; expected a folder")


def write_figures(folder: Path, figures: Iterable[Figure]) -> list[Path]:
    """Write `NAME.svg` for each figure, each whole or not at all; other files there stay.

    Args:
        folder: where to.
        figures: of a page.

    Returns:
        The files.
    """
    written = []
    for figure in figures:
        file = folder / f"{figure.name}.svg"
        with whole_file(file) as partial:
            partial.write_text(standalone(figure.svg), encoding="utf-8")
        written.append(file)
    return written
