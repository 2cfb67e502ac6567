"""The leaderboard as text, as a JSON document, as a data frame."""

import math
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from evaluation.bootstrap import Interval
from evaluation.leaderboard import OOF, Leaderboard, Row
from evaluation.scores import number

if TYPE_CHECKING:
    import pandas as pd

GAP = "  "
NOTHING = "-"


def leaderboard_text(board: Leaderboard) -> str:
    """Write the table with a line for each candidate, then what it says.

    The width follows the content and never the terminal, so nothing wraps or is cut in a pipe or
    a file.
    """
    cells = _all_cells(board)
    widths = [max(len(cell) for cell in column) for column in zip(*cells, strict=True)]
    lines = [_line(line, widths) for line in cells]
    rule = "-" * max(len(line) for line in lines)
    return "\n".join([lines[0], rule, *lines[1:], "", *_remarks(board)])


def leaderboard_document(board: Leaderboard) -> dict[str, Any]:
    """Give the leaderboard as a JSON document; None for what is missing."""
    return {
        "split": board.split,
        "protocol": board.protocol,
        "chosen": board.chosen,
        "reference": board.reference,
        "reference_on": board.reference_on,
        "optimism": number(board.optimism),
        "groups": board.groups,
        "candidates": [_row_document(row) for row in board.rows],
    }


def leaderboard_frame(board: Leaderboard) -> "pd.DataFrame":
    """Give the leaderboard as a data frame, a row a candidate and plain numbers in columns."""
    import pandas as pd

    return pd.DataFrame.from_records([_flat(board, row) for row in board.rows], index="name")


def _all_cells(board: Leaderboard) -> list[list[str]]:
    percent = f"{100 * board.level:g}% interval"
    names = list(dict.fromkeys(name for row in board.rows for name in row.iou))
    others = list(board.rows[0].others)
    head = ["", "candidate", OOF, board.split, percent, "gain", "paired interval", "verdict"]
    return [[*head, *names, *others], *(_cells(row, names, others) for row in board.rows)]


def _cells(row: Row, names: Iterable[str], others: Iterable[str]) -> list[str]:
    verdict = "reference" if row.reference else "better" if row.better else ""
    return [
        "*" if row.chosen else "",
        row.name,
        _decimal(row.oof),
        _decimal(row.examined),
        _ends(row.interval, ""),
        _decimal(row.gain, "+"),
        _ends(row.gain_interval, "+"),
        verdict,
        *(_decimal(row.iou.get(name)) for name in names),
        *(_decimal(row.others[name]) for name in others),
    ]


def _line(cells: list[str], widths: list[int]) -> str:
    marker, name, *values = cells
    shown = [marker.ljust(widths[0]), name.ljust(widths[1])]
    shown += [value.rjust(width) for value, width in zip(values, widths[2:], strict=True)]
    return GAP.join(shown).rstrip()


def _decimal(value: float | None, sign: str = "") -> str:
    """Write three decimals without the leading zero, as scores are written."""
    if value is None or math.isnan(value):
        return NOTHING
    return f"{value:{sign}.3f}".replace("0.", ".", 1)


def _ends(interval: Interval | None, sign: str) -> str:
    if interval is None:
        return NOTHING
    return f"{_decimal(interval.low, sign)} to {_decimal(interval.high, sign)}"


def _remarks(board: Leaderboard) -> list[str]:
    remarks = [_choice(board), _comparison(board)]
    if board.reference is not None and board.groups > 1:
        remarks.append(_levels(board))
    return remarks


def _choice(board: Leaderboard) -> str:
    if board.chosen is None:
        return (
            "No candidate has oof scores, so none is chosen: the first line is the highest on"
            f" {board.split}, and its score is optimistic by what picking it was worth."
        )
    row = next(row for row in board.rows if row.chosen)
    if board.split == OOF:
        return (
            f"* chosen, the highest on oof: {row.name}; examined on the same pictures, so its score"
            " is optimistic."
        )
    return (
        f"* chosen, the highest on oof: {row.name}, oof {_decimal(row.oof)}, {board.split}"
        f" {_decimal(row.examined)}, optimism {_decimal(board.optimism, '+')}."
    )


def _comparison(board: Leaderboard) -> str:
    if board.reference is None:
        return "No single member is among the candidates, so there are no gains."
    reference = (
        f"Gains are over {board.reference}, the highest single member on {board.reference_on}."
    )
    if board.groups < 2:
        reference += " All pictures are of one group, so there are no intervals."
    return reference


def _levels(board: Leaderboard) -> str:
    level, corrected = f"{100 * board.level:g}%", f"{100 * board.gain_level:.4g}%"
    gains = f"gains at {corrected} each ({level} for all together)"
    fixed = board.reference_on == OOF != board.split
    if fixed and board.chosen not in (None, board.reference):
        gains = f"the chosen candidate's gain at {level}; other {gains}"
    return (
        f"Intervals: bootstrap over {board.groups} groups of pictures; scores at {level}; {gains}."
        ' "better": the paired interval lies above 0.'
    )


def _row_document(row: Row) -> dict[str, Any]:
    return {
        "name": row.name,
        "is_member": row.is_member,
        "chosen": row.chosen,
        "reference": row.reference,
        "oof": number(row.oof),
        "examined": number(row.examined),
        "interval": _interval_document(row.interval),
        "gain": number(row.gain),
        "gain_interval": _interval_document(row.gain_interval),
        "better": row.better,
        "iou": dict(row.iou),
        "others": {name: number(value) for name, value in row.others.items()},
    }


def _interval_document(interval: Interval | None) -> dict[str, float] | None:
    if interval is None:
        return None
    return {"low": interval.low, "high": interval.high, "level": interval.level}


def _flat(board: Leaderboard, row: Row) -> dict[str, Any]:
    low, high = _pair(row.interval)
    gain_low, gain_high = _pair(row.gain_interval)
    return {
        "name": row.name,
        "is_member": row.is_member,
        "chosen": row.chosen,
        "reference": row.reference,
        OOF: row.oof,
        board.split: row.examined,
        "low": low,
        "high": high,
        "gain": row.gain,
        "gain_low": gain_low,
        "gain_high": gain_high,
        "better": row.better,
        **{f"iou {name}": math.nan if value is None else value for name, value in row.iou.items()},
        **row.others,
    }


def _pair(interval: Interval | None) -> tuple[float, float]:
    return (math.nan, math.nan) if interval is None else (interval.low, interval.high)


def scores_text(document: Mapping[str, Any]) -> str:
    """Write what `scores.score` gave: a line a protocol, mean and each class."""
    names = list(dict.fromkeys(n for p in document["protocols"].values() for n in p["iou"]))
    rows = [["protocol", "miou", *names]]
    for name, found in document["protocols"].items():
        values = [found["miou"], *(found["iou"].get(n) for n in names)]
        rows.append([name, *(_decimal(value) for value in values)])
    widths = [max(len(cell) for cell in column) for column in zip(*rows, strict=True)]
    lines = ["  ".join(cell.rjust(w) for cell, w in zip(row, widths, strict=True)) for row in rows]
    return "\n".join([*lines, f"{document['pictures']} pictures"])
