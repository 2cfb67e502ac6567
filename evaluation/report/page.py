"""The report as one HTML file that needs no network, and its figures as SVG files.

Names are escaped everywhere, so none can add markup or scripts.
"""

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import NamedTuple

from evaluation.core.classes import Classes
from evaluation.core.errors import BadData
from evaluation.core.files import atomic_file
from evaluation.report.figure_base import standalone
from evaluation.report.gallery import BROKEN, CHANGE_COLOURS, FIXED, Gallery


class TableCell(NamedTuple):
    """The text of a cell, and the value it is sorted by; empty if missing."""

    text: str
    value: str | float = ""


class TableRow(NamedTuple):
    """A row of a table, with one cell per heading; a chosen one is highlighted."""

    cells: Sequence[TableCell]
    chosen: bool = False


class HtmlTable(NamedTuple):
    """A table that can be sorted by its headings."""

    heads: Sequence[str]
    rows: Sequence[TableRow]


class Figure(NamedTuple):
    """A figure: a unique name that is also its file's, an SVG element of ours, and a caption."""

    name: str
    svg: str
    caption: str


@dataclass(frozen=True)
class Section:
    """A section of the page: paragraphs, then a table, then figures; `key` is its anchor."""

    key: str
    title: str
    text: Sequence[str] = ()
    table: HtmlTable | None = None
    figures: Sequence[Figure] = ()


class ReviewItem(NamedTuple):
    """An image to review, and why."""

    id: str
    note: str


class ReviewQueue(NamedTuple):
    """Images to review, the worst first."""

    title: str
    text: str
    items: Sequence[ReviewItem]


@dataclass(frozen=True)
class Page:
    """The content of the page; `gallery` may be None."""

    title: str
    subtitle: str
    sections: Sequence[Section]
    gallery: Gallery | None
    queues: Sequence[ReviewQueue]
    classes: Classes
    footer: str


def write_page(path: Path, page: Page) -> None:
    """Write the page whole or not at all."""
    import jinja2
    from markupsafe import Markup

    resources = files("evaluation.report")
    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined)
    template = environment.from_string((resources / "page.html.jinja").read_text(encoding="utf-8"))
    entries = page.gallery.to_dict(page.classes) if page.gallery else []
    text = template.render(
        page=page,
        gallery=bool(entries),
        gallery_json=_inside_script(entries),
        shape=page.gallery.target[0].shape if page.gallery else (1, 1),
        colours=list(zip(page.classes.names, page.classes.colours, strict=True)),
        fixed=CHANGE_COLOURS[FIXED],
        broken=CHANGE_COLOURS[BROKEN],
        style=Markup((resources / "page.css").read_text(encoding="utf-8")),
        script=Markup((resources / "page.js").read_text(encoding="utf-8")),
    )
    with atomic_file(path) as partial:
        partial.write_text(text, encoding="utf-8")


def _inside_script(document: object) -> str:
    """Return JSON without any `<`, which could end the script element."""
    return json.dumps(document, separators=(",", ":")).replace("<", "\\u003c")


def check_figures_folder(folder: Path) -> None:
    """Check that the folder for figures is not a file.

    Raises:
        BadData: it is.
    """
    if folder.exists() and not folder.is_dir():
        raise BadData(f"--figures {folder} is a file; expected a folder")


def write_figures(folder: Path, figures: Iterable[Figure]) -> list[Path]:
    """Write `NAME.svg` for each figure, each whole or not at all; return the files."""
    written = []
    for figure in figures:
        file = folder / f"{figure.name}.svg"
        with atomic_file(file) as partial:
            partial.write_text(standalone(figure.svg), encoding="utf-8")
        written.append(file)
    return written
