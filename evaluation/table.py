"""The leaderboard of `ens score` as text; any leaderboard as a JSON document or a data frame."""

import math
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from evaluation.bootstrap import Interval
from evaluation.cells import decimal, ends, in_columns, ruled
from evaluation.choice import OOF
from evaluation.gaps import Gap
from evaluation.leaderboard import Leaderboard, Row
from evaluation.remarks import score_remarks
from evaluation.scores import number

if TYPE_CHECKING:
    import pandas as pd

BESIDE = ("keras", "masked")
"""Of the other protocols' scores, the first of these stands beside the deciding one's."""


def leaderboard_text(board: Leaderboard) -> str:
    """Write the table with a line for each candidate, then what it says."""
    percent = f"{100 * board.level:g}% interval"
    names, beside = class_names(board), beside_of(board)
    head = ["", "candidate", OOF, board.split, percent, "gain", "paired interval", "verdict"]
    cells = [[*head, *names, beside], *(_cells(row, names, beside) for row in board.rows)]
    return "\n".join([*ruled(in_columns(cells, left=2)), "", *score_remarks(board)])


def class_names(board: Leaderboard) -> list[str]:
    """List the classes that have an IoU in any row."""
    return list(dict.fromkeys(name for row in board.rows for name in row.iou))


def beside_of(board: Leaderboard) -> str:
    """Name the protocol whose score stands beside."""
    return next(name for name in BESIDE if name != board.protocol)


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


def interval_document(interval: Interval | None) -> dict[str, float] | None:
    """Give an interval as a JSON document; None for none."""
    if interval is None:
        return None
    return {"low": interval.low, "high": interval.high, "level": interval.level}


def leaderboard_frame(board: Leaderboard) -> "pd.DataFrame":
    """Give the leaderboard as a data frame, a row a candidate and plain numbers in columns."""
    import pandas as pd

    return pd.DataFrame.from_records([_flat(board, row) for row in board.rows], index="name")


def _cells(row: Row, names: Iterable[str], beside: str) -> list[str]:
    verdict = "reference" if row.reference else "better" if row.better else ""
    return [
        "*" if row.chosen else "",
        row.name,
        decimal(row.oof),
        decimal(row.examined),
        ends(row.interval),
        decimal(row.gain, "+"),
        ends(row.gain_interval, "+"),
        verdict,
        *(decimal(row.iou.get(name)) for name in names),
        decimal(row.others[beside]),
    ]


def _row_document(row: Row) -> dict[str, Any]:
    return {
        "name": row.name,
        "is_member": row.is_member,
        "chosen": row.chosen,
        "reference": row.reference,
        "oof": number(row.oof),
        "examined": number(row.examined),
        "interval": interval_document(row.interval),
        "gain": number(row.gain),
        "gain_interval": interval_document(row.gain_interval),
        "better": row.better,
        "iou": dict(row.iou),
        "iou_intervals": {n: interval_document(i) for n, i in row.iou_intervals.items()},
        "others": {name: number(value) for name, value in row.others.items()},
        "gap": None if row.gap is None else _gap_document(row.gap),
        "members": list(row.members),
        "milliseconds": number(row.milliseconds),
        "front": row.front,
    }


def _gap_document(gap: Gap) -> dict[str, Any]:
    return {
        "value": number(gap.value),
        "interval": interval_document(gap.interval),
        "p_alone": number(gap.p_alone),
        "p": number(gap.p),
        "told_apart": gap.told_apart,
    }


def _flat(board: Leaderboard, row: Row) -> dict[str, Any]:
    behind = 0.0 if row.verdict == "first" else math.nan
    gap = row.gap or Gap(behind, None, math.nan, math.nan, told_apart=False)
    return {
        "name": row.name,
        "is_member": row.is_member,
        "chosen": row.chosen,
        "reference": row.reference,
        OOF: row.oof,
        board.split: row.examined,
        **_pair("", row.interval),
        "gain": row.gain,
        **_pair("gain_", row.gain_interval),
        "better": row.better,
        "gap": gap.value,
        **_pair("gap_", gap.interval),
        "p_alone": gap.p_alone,
        "p": gap.p,
        "told_apart": gap.told_apart,
        "milliseconds": row.milliseconds,
        "members": " ".join(row.members),
        "front": row.front,
        **{f"iou {name}": math.nan if value is None else value for name, value in row.iou.items()},
        **row.others,
    }


def _pair(prefix: str, interval: Interval | None) -> dict[str, float]:
    low, high = (math.nan, math.nan) if interval is None else (interval.low, interval.high)
    return {f"{prefix}low": low, f"{prefix}high": high}


def scores_text(document: Mapping[str, Any]) -> str:
    """Write what `scores.score` gave: a line a protocol, mean and each class."""
    names = list(dict.fromkeys(n for p in document["protocols"].values() for n in p["iou"]))
    rows = [["protocol", "miou", *names]]
    for name, found in document["protocols"].items():
        values = [found["miou"], *(found["iou"].get(n) for n in names)]
        rows.append([name, *(decimal(value) for value in values)])
    return "\n".join([*in_columns(rows, left=0), f"{document['pictures']} pictures"])
