"""The report as one HTML file that needs no network, and its figures as files.

Texts are escaped everywhere, so no name can add markup or scripts.
"""

import csv
import json
import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from evaluation.core.classes import Classes
from evaluation.core.errors import BadData
from evaluation.core.files import atomic_file
from evaluation.report.figures import Drawing, Table
from evaluation.report.gallery import ERROR_COLOURS, Gallery
from evaluation.report.svg import figure_style, standalone

if TYPE_CHECKING:
    from markupsafe import Markup

SCRIPTS = ("tips.js", "table.js", "figures.js", "gallery.js")


class TableCell(NamedTuple):
    """The text of a cell, the value it is sorted by (empty if missing), and a drawing beside it.

    `note` is small text below the first cell of a row.
    """

    text: str
    value: str | float = ""
    svg: str = ""
    badges: tuple[str, ...] = ()
    note: str = ""


class TableColumn(NamedTuple):
    """A column: its heading, what it holds, whether it is shown at first, and its group.

    `svg` is drawn below the heading; `ascending` is how the first click sorts.
    """

    head: str
    text: str
    shown: bool = True
    group: str = "columns"
    svg: str = ""
    ascending: bool = False


class TableRow(NamedTuple):
    """A row of a table, with one cell per column; `tags` are what it can be filtered by."""

    cells: Sequence[TableCell]
    chosen: bool = False
    tags: tuple[str, ...] = ()


@dataclass(frozen=True)
class HtmlTable:
    """A table whose columns can be chosen and sorted, and whose rows can be filtered.

    Args:
        name: of its file.
        columns: the first names the row.
        rows: in order.
        filters: the tags by which rows can be filtered, each with words for it.
    """

    name: str
    columns: Sequence[TableColumn]
    rows: Sequence[TableRow]
    filters: Sequence[tuple[str, str]] = ()

    @property
    def groups(self) -> dict[str, list[int]]:
        """The columns by group, without the first, which is always shown."""
        groups: dict[str, list[int]] = {}
        for index, column in list(enumerate(self.columns))[1:]:
            groups.setdefault(column.group, []).append(index)
        return groups

    def data(self) -> Table:
        """Return the values of all cells, with headings."""
        body: Table = [[cell.value for cell in row.cells] for row in self.rows]
        return [[column.head for column in self.columns], *body]


@dataclass(frozen=True)
class Figure:
    """A figure.

    Args:
        name: unique; also of its files.
        title: what one sees.
        caption: one sentence.
        drawing: the figure and its numbers.
        data: the numbers, where the figure shows a part of them only.
    """

    name: str
    title: str
    caption: str
    drawing: Drawing
    data: Table | None = None

    @property
    def table(self) -> Table:
        """The numbers, with headings."""
        return self.data or self.drawing.data


class Fact(NamedTuple):
    """A statement of the first screen: what it is about, in a few words, and as a sentence."""

    head: str
    value: str
    sentence: str


@dataclass(frozen=True)
class Section:
    """A section of the page; `key` is its anchor, and the notes explain it on demand."""

    key: str
    title: str
    table: HtmlTable | None = None
    figures: Sequence[Figure] = ()
    notes: Sequence[str] = ()


@dataclass(frozen=True)
class Page:
    """The content of the page; `gallery` may be None."""

    title: str
    facts: Sequence[Fact]
    sections: Sequence[Section]
    gallery: Gallery | None
    classes: Classes
    footer: str


def write_page(path: Path, page: Page) -> None:
    """Write the page whole or not at all."""
    import jinja2
    from markupsafe import Markup

    resources = files("evaluation.report")

    def resource(name: str) -> Markup:
        return Markup((resources / name).read_text(encoding="utf-8"))

    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    template = environment.from_string(resource("page.html.jinja"))
    figures = [figure for section in page.sections for figure in section.figures]
    tables = [section.table for section in page.sections if section.table]
    numbers = {figure.name: figure.table for figure in figures}
    numbers |= {table.name: table.data() for table in tables}
    text = template.render(
        page=page,
        breakable=_breakable,
        numbers=_inside_script(numbers),
        gallery=_inside_script(page.gallery.to_dict(page.classes) if page.gallery else None),
        classes=list(zip(page.classes.names, page.classes.colours, strict=True)),
        errors=ERROR_COLOURS,
        figure_style=Markup(figure_style()),
        style=resource("page.css"),
        scripts=[resource(name) for name in SCRIPTS],
    )
    with atomic_file(path) as partial:
        partial.write_text(text, encoding="utf-8")


def _breakable(name: str) -> "Markup":
    """Let a name be broken after `_`, `.` and `|` rather than anywhere."""
    from markupsafe import Markup, escape

    return Markup("<wbr>").join(escape(part) for part in re.split(r"(?<=[_.|])", name))


def _inside_script(document: Any) -> str:
    """Return JSON without any `<`, which could end the script element; NaN is null."""
    text = json.dumps(_without_nan(document), separators=(",", ":"), allow_nan=False)
    return text.replace("<", "\\u003c")


def _without_nan(document: Any) -> Any:
    if isinstance(document, dict):
        return {key: _without_nan(value) for key, value in document.items()}
    if isinstance(document, list | tuple):
        return [_without_nan(value) for value in document]
    return None if isinstance(document, float) and not math.isfinite(document) else document


def check_figures_folder(folder: Path) -> None:
    """Check that the folder for figures is not a file.

    Raises:
        BadData: it is.
    """
    if folder.exists() and not folder.is_dir():
        raise BadData(f"--figures {folder} is a file; expected a folder")


def write_figures(folder: Path, figures: Iterable[Figure]) -> list[Path]:
    """Write `NAME.svg` and `NAME.csv` for each figure, each whole or not at all; return them."""
    written = []
    for figure in figures:
        drawing, table = folder / f"{figure.name}.svg", folder / f"{figure.name}.csv"
        with atomic_file(drawing) as partial:
            partial.write_text(standalone(figure.drawing.svg), encoding="utf-8")
        with (
            atomic_file(table) as partial,
            partial.open("w", newline="", encoding="utf-8") as file,
        ):
            csv.writer(file).writerows(figure.table)
        written += [drawing, table]
    return written
