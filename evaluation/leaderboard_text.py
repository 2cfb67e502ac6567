"""The leaderboards of `ens score` and `ens compare` as text: a table, and notes below it."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from textwrap import fill
from typing import Any

from evaluation.core.errors import BadSpec, format_count, unknown
from evaluation.core.run_folder import OOF
from evaluation.formatting import (
    COLUMN_GAP,
    MISSING,
    format_columns,
    format_decimal,
    format_interval,
    note_of_shown_classes,
    shown_classes,
)
from evaluation.leaderboard import Leaderboard, LeaderboardRow
from evaluation.leaderboard_notes import brief_notes, ranking_notes, score_notes
from evaluation.margins import MarginComparison

MIN_P = 0.001

SECOND_PROTOCOLS = ("keras", "masked")
"""The first of these that is not the deciding protocol gets a column of its own."""


Cells = list[str]


@dataclass(frozen=True)
class TableView:
    """Which part of a leaderboard is written.

    Args:
        width: in characters; columns that do not fit are left out in the order of `GIVE_WAY`. None
            for any width.
        columns: names of columns to write, whatever the width; by default all.
        explain: whether all notes follow, or the two lines of `brief_notes`.
        colour: whether better candidates are green and lower ones red.
    """

    width: int | None = None
    columns: tuple[str, ...] = ()
    explain: bool = True
    colour: bool = False


EVERYTHING = TableView()

EXPLAIN = "--explain says what the columns and intervals mean."

GIVE_WAY = (
    *("protocol", "class", "members", "front", "ms", "p", "interval", OOF),
    *("verdict", "gain_interval", "gap_interval", "gain", "gap"),
)
"""Columns of a leaderboard that is too wide, in the order in which they are left out."""


@dataclass(frozen=True)
class _Column:
    """A column by its name for `--columns`; `gives_way` is its place in `GIVE_WAY`, if any."""

    name: str
    heading: str
    cells: Cells
    gives_way: str | None = None

    @property
    def width(self) -> int:
        return max(map(len, [self.heading, *self.cells]))


def format_leaderboard(board: Leaderboard, view: TableView = EVERYTHING) -> str:
    """Write the leaderboard of `ens score`: choice on oof, and gains over the reference."""
    rows = board.rows
    columns = [
        *_first_columns(board, with_oof=board.split != OOF),
        _column("gain", [format_decimal(row.gain, "+") for row in rows]),
        _column(
            "gain_interval",
            [format_interval(row.gain_interval, "+") for row in rows],
            heading="interval of gain",
        ),
        _column("verdict", list(map(_gain_verdict, rows))),
    ]
    styles = ["green" if row.better else "red" if _is_worse(row) else "" for row in rows]
    rest = "all: scores/leaderboard.csv in the run"
    return _format(board, columns, view, styles, score_notes(board), rest)


def format_ranking(board: Leaderboard, view: TableView = EVERYTHING) -> str:
    """Write the leaderboard of `ens compare`: gaps to the first, and costs."""
    rows = board.rows
    gaps = [_gap_cells(row) for row in rows]
    columns = [
        *_first_columns(board, with_oof=False),
        _column("gap", [gap for gap, _, _ in gaps]),
        _column(
            "gap_interval",
            [ends for _, ends, _ in gaps],
            heading="interval of gap",
        ),
        _column("p", [p for _, _, p in gaps]),
        _column("verdict", [row.verdict for row in rows], heading=""),
        _column(
            "ms",
            [MISSING if math.isnan(r.milliseconds) else f"{r.milliseconds:.1f}" for r in rows],
        ),
        _column("members", [str(len(row.members)) if row.members else MISSING for row in rows]),
        _column("front", ["front" if row.on_pareto_front else "" for row in rows], heading=""),
    ]
    styles = ["red" if row.verdict == "lower" else "" for row in rows]
    text = _format(board, columns, view, styles, ranking_notes(board), "--csv FILE writes all")
    return text if board.margin is None else f"{text}\n\n{_margin_table(board.margin)}"


def _first_columns(board: Leaderboard, *, with_oof: bool) -> list[_Column]:
    rows = board.rows
    oof = [_column(OOF, [format_decimal(row.oof) for row in rows])]
    return [
        _Column("chosen", "", ["*" if row.chosen else "" for row in rows]),
        _Column("candidate", "candidate", [row.name for row in rows]),
        *(oof if with_oof else []),
        _Column("score", board.split, [format_decimal(row.examined) for row in rows]),
        _column(
            "interval",
            [format_interval(row.interval) for row in rows],
            heading=f"{100 * board.level:g}% interval",
        ),
    ]


def _column(name: str, cells: Cells, heading: str | None = None) -> _Column:
    return _Column(name, name if heading is None else heading, cells, name)


def format_scores(document: Mapping[str, Any], *, rest: str = "--csv FILE writes all") -> str:
    """Write what `scores.score` returned: a line per protocol, with the mean and each class.

    Args:
        document: of the scores.
        rest: where all classes are, if some are left out.
    """
    protocols = document["protocols"]
    all_names = list(dict.fromkeys(n for p in protocols.values() for n in p["iou"]))
    first = next(iter(protocols))
    values = [protocols[first]["iou"].get(name) for name in all_names]
    names = [all_names[index] for index in shown_classes(values)]
    notes = note_of_shown_classes(len(all_names), f"IoU under {first}", rest)
    rows = [["protocol", "miou", *names]]
    for name, result in document["protocols"].items():
        values = [result["miou"], *(result["iou"].get(n) for n in names)]
        rows.append([name, *(format_decimal(value) for value in values)])
    return "\n".join(
        [*format_columns(rows, left=0), *notes, format_count(document["images"], "image")]
    )


def second_protocol(board: Leaderboard) -> str:
    """Return the protocol of the column beside that of the deciding one."""
    return next(name for name in SECOND_PROTOCOLS if name != board.protocol)


def _format(
    board: Leaderboard,
    columns: list[_Column],
    view: TableView,
    styles: list[str],
    notes: list[str],
    rest: str,
) -> str:
    """Add columns of the classes and of a second protocol; choose columns, and add the notes."""
    rows, second = board.rows, second_protocol(board)
    all_names = list(dict.fromkeys(name for row in rows for name in row.iou))
    wanted = set(view.columns)
    shown = [all_names[i] for i in shown_classes([rows[0].iou.get(n) for n in all_names])]
    if view.columns:
        shown = [name for name in all_names if {name, "classes"} & wanted]
    for name in shown:
        cells = [format_decimal(row.iou.get(name)) for row in rows]
        columns.append(_Column(name, name, cells, "class"))
    others = [format_decimal(row.others[second]) for row in rows]
    columns.append(_Column(second, second, others, "protocol"))
    lines = []
    if view.columns:
        columns = _chosen_columns(columns, view.columns, all_names)
    else:
        some = note_of_shown_classes(len(all_names), f"IoU of {rows[0].name}", rest)
        columns, left_out = _fitting(columns, view.width)
        lines = [*([] if "class" in left_out else some), *_left_out_note(columns, left_out, view)]
    table = [[column.heading for column in columns]]
    table += map(list, zip(*(column.cells for column in columns), strict=True))
    text = format_columns(table, left=2, rule=True, styles=["", *styles] if view.colour else None)
    explained = notes if view.explain else [*brief_notes(board), EXPLAIN]
    return "\n".join([*text, "", *_wrapped([*lines, *explained], view.width)])


def _wrapped(notes: Sequence[str], width: int | None) -> list[str]:
    return list(notes) if width is None else [fill(note, max(width, 40)) for note in notes]


def _chosen_columns(
    columns: list[_Column], wanted: tuple[str, ...], classes: list[str]
) -> list[_Column]:
    """Return the candidates' names and the columns that are asked for.

    Raises:
        BadSpec: there is no such column.
    """
    known = [column.name for column in columns if column.gives_way != "class"][2:]
    for name in wanted:
        if name not in (*known, *classes, "classes", "candidate"):
            raise BadSpec(unknown("column", name, [*known, "classes", *classes]))
    return columns[:2] + [
        column
        for column in columns[2:]
        if column.name in wanted or (column.gives_way == "class" and "classes" in wanted)
    ]


def _fitting(columns: list[_Column], width: int | None) -> tuple[list[_Column], list[str]]:
    """Return the columns that fit a width, and the kinds of those that are left out.

    Of the classes the last goes first; all classes are named as one kind.
    """
    kept = list(columns)
    left_out: list[str] = []
    for kind in GIVE_WAY:
        for column in reversed([column for column in kept if column.gives_way == kind]):
            if width is None or sum(c.width + len(COLUMN_GAP) for c in kept) <= width + 2:
                return kept, left_out
            kept.remove(column)
            left_out = list(dict.fromkeys([*left_out, kind]))
    return kept, left_out


def _left_out_note(kept: list[_Column], kinds: list[str], view: TableView) -> list[str]:
    some = "some classes" if any(column.gives_way == "class" for column in kept) else "classes"
    names = {"protocol": "a second protocol", "class": some}
    parts = ", ".join(names.get(kind, kind) for kind in kinds)
    return [f"Left out to fit {view.width} columns: {parts} (--wide shows all)."] if kinds else []


def _gain_verdict(row: LeaderboardRow) -> str:
    if row.reference:
        return "reference"
    return "better" if row.better else "lower" if _is_worse(row) else ""


def _is_worse(row: LeaderboardRow) -> bool:
    return row.gain_interval is not None and row.gain_interval.high < 0


def _gap_cells(row: LeaderboardRow) -> tuple[str, str, str]:
    if row.gap is None:
        return MISSING, MISSING, MISSING
    p = f"<{MIN_P}".replace("0.", ".") if row.gap.p < MIN_P else format_decimal(row.gap.p)
    return format_decimal(row.gap.value, "+"), format_interval(row.gap.interval, "+"), p


def _margin_table(margin: MarginComparison) -> str:
    """Write which candidates are not worse than a given one, or equivalent to it."""
    level, by = f"{100 * margin.level:g}%", format_decimal(margin.margin)
    fixed = (
        "was fixed before the images were examined"
        if margin.predeclared
        else "may have been picked by these scores, so bounds hold for all pairs"
    )
    head = ["candidate", "difference", "bounds", f"to {margin.to}"]
    rows = [
        [
            row.name,
            format_decimal(row.difference, "+"),
            f"{format_decimal(row.low, '+')} to {format_decimal(row.high, '+')}",
            row.statement,
        ]
        for row in margin.rows
    ]
    note = (
        f'"not worse" than {margin.to} by more than {by}: the lower bound lies above -{by};'
        f' "equivalent": the upper one lies below +{by}, too; "worse": by more than {by}. Lower'
        f" bounds hold together at {level}, and so do upper ones (each at"
        f" {100 * margin.bound_level:.4g}%, one-sided). {margin.to} {fixed}."
    )
    return "\n".join([*format_columns([head, *rows], left=1, rule=True), "", note])
