"""One HTML file that opens from disk: no network, nothing of a name is taken for markup.

Figures of the page as files of their own, for papers and READMEs.
"""

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from importlib.resources import files
from pathlib import Path
from typing import NamedTuple

import jinja2
from markupsafe import Markup

from evaluation.core.classes import Classes
from evaluation.core.errors import BadData
from evaluation.core.files import atomic_file
from evaluation.report.figure_base import standalone
from evaluation.report.gallery import BROKEN, CHANGES, FIXED, Gallery


class Cell(NamedTuple):
    """A cell of a table.

    Args:
        text: what is read.
        value: what it is sorted by; empty for nothing.
    """

    text: str
    value: str | float = ""


class Row(NamedTuple):
    """A row of a table.

    Args:
        cells: one a heading.
        chosen: whether it stands out.
    """

    cells: Sequence[Cell]
    chosen: bool = False


class Table(NamedTuple):
    """A table whose headings sort it."""

    heads: Sequence[str]
    rows: Sequence[Row]


class Figure(NamedTuple):
    """A drawing.

    Args:
        name: of its own on the page, fit for a file.
        svg: an element of ours.
        caption: what it shows.
    """

    name: str
    svg: str
    caption: str


@dataclass(frozen=True)
class Section:
    """A part of the page.

    Args:
        key: its anchor.
        title: its heading.
        text: paragraphs.
        table: below them.
        figures: below that.
    """

    key: str
    title: str
    text: Sequence[str] = ()
    table: Table | None = None
    figures: Sequence[Figure] = ()


class Queued(NamedTuple):
    """An image to look at, and why."""

    id: str
    note: str


class Queue(NamedTuple):
    """Images to look at, the worst first."""

    title: str
    text: str
    items: Sequence[Queued]


@dataclass(frozen=True)
class Page:
    """All that the page shows.

    Args:
        title: its heading.
        subtitle: a line below it.
        sections: from top to bottom.
        gallery: images to walk through; None for none.
        queues: images to look at.
        classes: their names and colours.
        footer: the last line.
    """

    title: str
    subtitle: str
    sections: Sequence[Section]
    gallery: Gallery | None
    queues: Sequence[Queue]
    classes: Classes
    footer: str
    colours: Sequence[tuple[str, str]] = field(init=False)

    def __post_init__(self) -> None:
        """Pair class names with colours, for the legend."""
        pairs = tuple(zip(self.classes.names, self.classes.colours, strict=True))
        object.__setattr__(self, "colours", pairs)

    @property
    def rows(self) -> int:
        """Rows of an image of the gallery."""
        return 1 if self.gallery is None else int(self.gallery.target.shape[1])

    @property
    def cols(self) -> int:
        """Columns of an image of the gallery."""
        return 1 if self.gallery is None else int(self.gallery.target.shape[2])


def write_page(path: Path, page: Page) -> None:
    """Write the page whole or not at all.

    Args:
        path: of the HTML file.
        page: what it shows.
    """
    here = files("evaluation.report")
    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined)
    template = environment.from_string((here / "page.html.jinja").read_text(encoding="utf-8"))
    shown = page.gallery.document(page.classes) if page.gallery else []
    text = template.render(
        page=page,
        gallery=bool(shown),
        gallery_json=_inside_script(shown),
        fixed=CHANGES[FIXED],
        broken=CHANGES[BROKEN],
        style=Markup((here / "page.css").read_text(encoding="utf-8")),
        script=Markup((here / "page.js").read_text(encoding="utf-8")),
    )
    with atomic_file(path) as partial:
        partial.write_text(text, encoding="utf-8")


def _inside_script(document: object) -> str:
    """Return JSON in which no `<` could end the script element."""
    return json.dumps(document, separators=(",", ":")).replace("<", "\\u003c")


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
        with atomic_file(file) as partial:
            partial.write_text(standalone(figure.svg), encoding="utf-8")
        written.append(file)
    return written
