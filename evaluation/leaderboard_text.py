"""The leaderboard of `ens score` as text; any leaderboard as a JSON document or a data frame.

The leaderboard of `ens compare` as text: who is first, who may be as good, at what cost.

What a leaderboard says below its table.

What the intervals did where they were tried, to be said where they are printed.
"""

import math
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from evaluation.formatting import (
    NOTHING,
    decimal,
    format_interval,
    in_columns,
    ruled,
)
from evaluation.intervals import Interval
from evaluation.leaderboard import OOF, Leaderboard, LeaderboardRow
from evaluation.scores import number
from evaluation.significance import GapToBest, num_pairs

COVERED = {8: (93.4, 93.6), 20: (93.5, 95.1), 92: (95.5, 96.0), 400: (95.7, 95.0)}
"""Groups -> percent of 1,000 simulated data sets whose 95 % interval held the score, and the
difference; from benchmarks/coverage.py."""

ERRED = {8: 4.0, 20: 4.4, 92: 5.0, 400: 4.1}
"""Groups -> percent of 1,000 simulated pairs without a difference that the test at 5 % told apart;
from the same script."""


def test_size_with(groups: int) -> str:
    """Say how often the test erred with about as many groups."""
    tried = _tried(groups)
    return f"erred in {ERRED[tried]:g}% of simulations with {tried} groups"


def coverage_with(groups: int) -> str | None:
    """Say how often such intervals held the target with about as many groups; None with many.

    Args:
        groups: how many groups of images an interval is over.
    """
    if groups >= max(COVERED):
        return None
    tried = _tried(groups)
    score, difference = COVERED[tried]
    said = (
        f"{groups} groups: in simulations with {tried}, such 95% intervals held the true score in"
        f" {score:g}% and the true difference in {difference:g}% of the data sets"
    )
    return f"{said}; with fewer, trust them less." if groups < tried else f"{said}."


def _tried(groups: int) -> int:
    """Return the largest number of groups that was tried and is not above; the least, if none."""
    return max((number for number in COVERED if number <= groups), default=min(COVERED))


COST = (
    "ms: an image through the networks of all folds, the fusion and the chain, on one core of this"
    ' machine. "front": nobody scores as high at less cost.'
)
TOO_FEW = " No gap can be told from chance with so few groups for so many candidates."
ONE_GROUP = "All images are of one group, so there are no intervals."


def score_remarks(board: Leaderboard) -> list[str]:
    """Say what was chosen, and what the gains over the best single member are."""
    remarks = [_choice(board), _gains(board)]
    if board.reference is not None and board.groups > 1:
        remarks.append(_levels(board))
    return [*remarks, *_warnings(board)]


def rank_remarks(board: Leaderboard) -> list[str]:
    """Say what was chosen, who cannot be told from the first, and what costs are."""
    return [_choice(board), *_tests(board), COST, *_warnings(board)]


def _choice(board: Leaderboard) -> str:
    if board.chosen is None:
        return (
            "No candidate has oof scores, so none is chosen: the first line is the highest on"
            f" {board.split}, and its score is optimistic by what picking it was worth."
        )
    row = next(row for row in board.rows if row.chosen)
    if board.split == OOF:
        return (
            f"* chosen, the highest on oof: {row.name}; examined on the same images, so its score"
            " is optimistic."
        )
    return (
        f"* chosen, the highest on oof: {row.name}, oof {decimal(row.oof)}, {board.split}"
        f" {decimal(row.examined)}, optimism {decimal(board.optimism, '+')}."
    )


def _gains(board: Leaderboard) -> str:
    if board.reference is None:
        return "No single member is among the candidates, so there are no gains."
    reference = (
        f"Gains are over {board.reference}, the highest single member on {board.reference_on}."
    )
    if board.groups < 2:
        reference += f" {ONE_GROUP}"
    return reference


def _levels(board: Leaderboard) -> str:
    level, corrected = f"{100 * board.level:g}%", f"{100 * board.gain_level:.4g}%"
    gains = f"gains at {corrected} each ({level} for all together)"
    fixed = board.reference_on == OOF != board.split
    if fixed and board.chosen not in (None, board.reference):
        gains = f"the chosen candidate's gain at {level}; other {gains}"
    return (
        f"Intervals: over {board.groups} groups of images; scores at {level}; {gains}."
        ' "better": the paired interval lies above 0.'
    )


def _tests(board: Leaderboard) -> list[str]:
    if board.groups < 2:
        return [ONE_GROUP]
    level, error = f"{100 * board.level:g}%", f"{1 - board.level:.2g}"
    gaps = (
        f"Gaps are to the first, over {board.groups} groups of images; intervals at {level} each."
        f' "open": cannot be told from the first; "lower": p is {error} or less.'
    )
    tests = (
        f"p: sign-flip test (at 5%, {test_size_with(board.groups)}); Holm's correction over every pair"
        f" ({num_pairs(len(board.rows))}), since the first was found by looking."
    )
    return [gaps, tests + (TOO_FEW if _too_few(board) else "")]


def _warnings(board: Leaderboard) -> list[str]:
    """Say what makes the numbers worth less than they look."""
    if all(math.isnan(row.examined) for row in board.rows):
        return [f"No pixel of {board.split} can be scored, so there are no scores."]
    tried = coverage_with(board.groups) if board.groups > 1 else None
    return [] if tried is None else [tried]


def _too_few(board: Leaderboard) -> bool:
    """Tell whether even the clearest gap has a corrected p-value above the level."""
    clearest = 2.0 ** (1 - board.groups)
    return clearest * num_pairs(len(board.rows)) > 1 - board.level


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


def _cells(row: LeaderboardRow, names: Iterable[str], beside: str) -> list[str]:
    verdict = "reference" if row.reference else "better" if row.better else ""
    return [
        "*" if row.chosen else "",
        row.name,
        decimal(row.oof),
        decimal(row.examined),
        format_interval(row.interval),
        decimal(row.gain, "+"),
        format_interval(row.gain_interval, "+"),
        verdict,
        *(decimal(row.iou.get(name)) for name in names),
        decimal(row.others[beside]),
    ]


def _row_document(row: LeaderboardRow) -> dict[str, Any]:
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


def _gap_document(gap: GapToBest) -> dict[str, Any]:
    return {
        "value": number(gap.value),
        "interval": interval_document(gap.interval),
        "p_alone": number(gap.p_alone),
        "p": number(gap.p),
        "told_apart": gap.told_apart,
    }


def _flat(board: Leaderboard, row: LeaderboardRow) -> dict[str, Any]:
    behind = 0.0 if row.verdict == "first" else math.nan
    gap = row.gap or GapToBest(behind, None, math.nan, math.nan, told_apart=False)
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
    return "\n".join([*in_columns(rows, left=0), f"{document['images']} images"])


LEAST_P = 0.001


def ranking_text(board: Leaderboard) -> str:
    """Write the table with a line for each candidate, then what it says."""
    level = f"{100 * board.level:g}% interval"
    names, beside = class_names(board), beside_of(board)
    head = ["", "candidate", board.split, level, "gap", "paired interval", "p", ""]
    head += ["ms", "members", "", *names, beside]
    cells = [head, *(_cells_ranking(row, names, beside) for row in board.rows)]
    return "\n".join([*ruled(in_columns(cells, left=2)), "", *rank_remarks(board)])


def _cells_ranking(row: LeaderboardRow, names: Iterable[str], beside: str) -> list[str]:
    return [
        "*" if row.chosen else "",
        row.name,
        decimal(row.examined),
        format_interval(row.interval),
        *_gap(row),
        NOTHING if math.isnan(row.milliseconds) else f"{row.milliseconds:.1f}",
        str(len(row.members)) if row.members else NOTHING,
        "front" if row.front else "",
        *(decimal(row.iou.get(name)) for name in names),
        decimal(row.others[beside]),
    ]


def _gap(row: LeaderboardRow) -> list[str]:
    if row.gap is None:
        return [NOTHING, NOTHING, NOTHING, row.verdict]
    p = row.gap.p
    shown = f"<{LEAST_P}".replace("0.", ".") if p < LEAST_P else decimal(p)
    return [decimal(row.gap.value, "+"), format_interval(row.gap.interval, "+"), shown, row.verdict]
