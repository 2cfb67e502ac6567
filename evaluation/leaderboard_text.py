"""The leaderboards of `ens score` and `ens compare` as text: a table, and notes below it."""

import math
from collections.abc import Iterable, Mapping
from typing import Any

from evaluation.core.errors import format_count
from evaluation.core.run_folder import OOF
from evaluation.formatting import (
    MISSING,
    format_columns,
    format_decimal,
    format_interval,
    note_of_shown_classes,
    shown_classes,
)
from evaluation.leaderboard import Leaderboard, LeaderboardRow
from evaluation.margins import MarginComparison
from evaluation.run_metric import MASKED, metric_label
from evaluation.significance import POWER

COVERAGE = {8: (93.4, 93.6), 20: (93.5, 95.1), 92: (95.5, 96.0), 400: (95.7, 95.0)}
"""Groups -> percent of 1,000 simulated data sets whose 95 % interval held the score, and the
difference; from benchmarks/coverage.py."""

SET_ERRORS = {
    (24, 5): 5.5,
    (24, 30): 5.5,
    (24, 100): 9.2,
    (92, 5): 2.9,
    (92, 30): 1.6,
    (92, 100): 1.8,
    (400, 5): 3.0,
    (400, 30): 1.9,
    (400, 100): 1.9,
}
"""(Groups, candidates) -> percent of 2,000 simulated data sets in which the confidence set
lacked any of equal candidates, the larger one of two kinds; should be 5 at most. From
benchmarks/coverage.py."""

MIN_P = 0.001

SECOND_PROTOCOLS = ("keras", "masked")
"""The first of these that is not the deciding protocol gets a column of its own."""

COST = (
    "ms: per image, for the networks of all folds, the fusion and the chain, on one core of this"
    ' machine. "front": no other candidate scores as high at less cost.'
)
ONE_GROUP = "All images are of one group, so there are no intervals."


def format_leaderboard(board: Leaderboard) -> str:
    """Write the leaderboard of `ens score`: choice on oof, and gains over the reference."""
    chosen_elsewhere = board.split != OOF
    head = ["", "candidate", *([OOF] * chosen_elsewhere), board.split, _level(board), "gain"]
    head += ["paired interval", "verdict"]
    cells = [
        [
            "*" if row.chosen else "",
            row.name,
            *([format_decimal(row.oof)] * chosen_elsewhere),
            format_decimal(row.examined),
            format_interval(row.interval),
            format_decimal(row.gain, "+"),
            format_interval(row.gain_interval, "+"),
            "reference" if row.reference else "better" if row.better else "",
        ]
        for row in board.rows
    ]
    return _format(board, head, cells, score_notes(board), "all: scores/leaderboard.csv in the run")


def format_ranking(board: Leaderboard) -> str:
    """Write the leaderboard of `ens compare`: gaps to the first, and costs."""
    head = ["", "candidate", board.split, _level(board), "gap", "paired interval", "p", ""]
    head += ["ms", "members", ""]
    cells = [
        [
            "*" if row.chosen else "",
            row.name,
            format_decimal(row.examined),
            format_interval(row.interval),
            *_gap_cells(row),
            MISSING if math.isnan(row.milliseconds) else f"{row.milliseconds:.1f}",
            str(len(row.members)) if row.members else MISSING,
            "front" if row.on_pareto_front else "",
        ]
        for row in board.rows
    ]
    text = _format(board, head, cells, ranking_notes(board), "--csv FILE writes all")
    return text if board.margin is None else f"{text}\n\n{_margin_table(board.margin)}"


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


def score_notes(board: Leaderboard) -> list[str]:
    """Explain the choice, and the gains over the best single member."""
    notes = [*_metric(board), _choice(board), _gains(board)]
    if board.reference is not None and board.groups > 1:
        notes += [_levels(board), *_confidence_set(board)]
    return [*notes, *_warnings(board)]


def ranking_notes(board: Leaderboard) -> list[str]:
    """Explain the choice, the gaps to the first, which candidates may be best, and the costs."""
    return [*_metric(board), _choice(board), *_gaps(board), COST, *_warnings(board)]


def set_errors_with(groups: int, candidates: int) -> str:
    """Describe how often the confidence set erred with about as many groups and candidates."""

    def distance(cell: tuple[int, int]) -> float:
        return abs(math.log(cell[0] / groups)) + abs(math.log(cell[1] / candidates))

    nearest = min(SET_ERRORS, key=distance)
    return (
        f"In simulations of {nearest[0]} groups and {nearest[1]} equal candidates the set lacked"
        f" one in {SET_ERRORS[nearest]:g}% of the data sets; it should be 5% at most."
    )


def coverage_with(groups: int) -> str | None:
    """Describe the intervals' coverage with about as many groups; None with many groups."""
    if groups >= max(COVERAGE):
        return None
    simulated = _simulated(groups)
    score, difference = COVERAGE[simulated]
    note = (
        f"{groups} groups: in simulations with {simulated}, such 95% intervals held the true score"
        f" in {score:g}% and the true difference in {difference:g}% of the data sets"
    )
    return f"{note}; with fewer, trust them less." if groups < simulated else f"{note}."


def _simulated(groups: int) -> int:
    """Return the largest simulated number of groups that is not above; the smallest, if none."""
    return max((number for number in COVERAGE if number <= groups), default=min(COVERAGE))


def _level(board: Leaderboard) -> str:
    return f"{100 * board.level:g}% interval"


def _format(
    board: Leaderboard, head: list[str], cells: list[list[str]], notes: Iterable[str], rest: str
) -> str:
    """Add the columns of the classes and of a second protocol; put the notes below the table."""
    all_names = list(dict.fromkeys(name for row in board.rows for name in row.iou))
    first = board.rows[0]
    names = [all_names[index] for index in shown_classes([first.iou.get(n) for n in all_names])]
    shown = note_of_shown_classes(len(all_names), f"IoU of {first.name}", rest)
    second = second_protocol(board)
    table = [[*head, *names, second]]
    for row, left in zip(board.rows, cells, strict=True):
        iou = (format_decimal(row.iou.get(name)) for name in names)
        table.append([*left, *iou, format_decimal(row.others[second])])
    return "\n".join([*format_columns(table, left=2, rule=True), "", *shown, *notes])


def _gap_cells(row: LeaderboardRow) -> list[str]:
    if row.gap is None:
        return [MISSING, MISSING, MISSING, row.verdict]
    p = f"<{MIN_P}".replace("0.", ".") if row.gap.p < MIN_P else format_decimal(row.gap.p)
    gap, interval = format_decimal(row.gap.value, "+"), format_interval(row.gap.interval, "+")
    return [gap, interval, p, row.verdict]


def _metric(board: Leaderboard) -> list[str]:
    return [] if board.protocol == MASKED else [f"Scores are {metric_label(board.protocol)}."]


def _choice(board: Leaderboard) -> str:
    if board.chosen is None:
        return (
            "No candidate has oof scores, so none is chosen: the first line is the highest on"
            f" {board.split}, and its score is optimistic because it was picked there."
        )
    row = next(row for row in board.rows if row.chosen)
    if board.split == OOF:
        return (
            f"* chosen, the highest on oof: {row.name}; examined on the same images, so its score"
            " is optimistic."
        )
    return (
        f"* chosen, the highest on oof: {row.name}, oof {format_decimal(row.oof)}, {board.split}"
        f" {format_decimal(row.examined)}, optimism {format_decimal(board.optimism, '+')}."
    )


def _gains(board: Leaderboard) -> str:
    if board.reference is None:
        return "No single member is among the candidates, so there are no gains."
    reference = (
        f"Gains are over {board.reference}, the highest single member on {board.reference_on}."
    )
    return reference if board.groups > 1 else f"{reference} {ONE_GROUP}"


def _levels(board: Leaderboard) -> str:
    level, corrected = f"{100 * board.level:g}%", f"{100 * board.gain_level:.4g}%"
    gains = f"gains at {corrected} each ({level} for all together, by max-T)"
    preregistered = board.reference_on == OOF != board.split
    if preregistered and board.chosen not in (None, board.reference):
        gains = f"the chosen candidate's gain at {level}; other {gains}"
    return (
        f"Intervals: over {board.groups} groups of images; scores at {level}; {gains}."
        ' "better": shown to be above the reference.'
    )


def _gaps(board: Leaderboard) -> list[str]:
    if board.groups < 2:
        return [ONE_GROUP]
    level, each = f"{100 * board.level:g}%", f"{100 * board.gap_level:.4g}%"
    gaps = (
        f"Gaps are to the first, over {board.groups} groups of images; intervals at {each} each"
        f" ({level} for all pairs of candidates together, since the first was found by comparing"
        " scores)."
    )
    return [gaps, *_confidence_set(board)]


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


def _confidence_set(board: Leaderboard) -> list[str]:
    """Say which candidates cannot be distinguished from the first, and what could be."""
    compared = sum(not math.isnan(row.examined) for row in board.rows)
    if compared < 2 or board.groups < 2:
        return []
    level, held = f"{100 * board.level:g}%", len(board.confidence_set)
    shown = (
        f"{held} of {compared} candidates may be best (model confidence set at {level}, p above"
        f" {1 - board.level:.2g}): they cannot be distinguished from the first. The others are"
        f" shown to be lower. {set_errors_with(board.groups, compared)}"
    )
    could = board.detectable
    if could is None:
        return [shown]
    gap = (
        f"Smallest gap to the first that these {board.groups} groups detect with power {POWER:g}"
        f" at {100 * could.level:.4g}%: {format_decimal(could.median)}"
    )
    if compared > 2:
        gap += (
            f" (median of {compared - 1} candidates; {format_decimal(could.low)} to"
            f" {format_decimal(could.high)})"
        )
    return [shown, f"{gap}."]


def _warnings(board: Leaderboard) -> list[str]:
    if all(math.isnan(row.examined) for row in board.rows):
        return [f"No pixel of {board.split} can be scored, so there are no scores."]
    coverage = coverage_with(board.groups) if board.groups > 1 else None
    return [] if coverage is None else [coverage]
