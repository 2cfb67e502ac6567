"""The notes below the leaderboards of `ens score` and `ens compare`, and of the report."""

import math

from evaluation.core.run_folder import OOF
from evaluation.formatting import format_decimal
from evaluation.leaderboard import Leaderboard
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

COST = (
    "ms: per image, for the networks of all folds, the fusion and the chain, on one core of this"
    ' machine. "front": no other candidate scores as high at less cost.'
)
ONE_GROUP = "All images are of one group, so there are no intervals."


def brief_notes(board: Leaderboard) -> list[str]:
    """Say in two lines which candidate is chosen, and which gaps mean anything."""
    compared = sum(not math.isnan(row.examined) for row in board.rows)
    first = " ".join([*_metric(board), _choice(board)])
    if compared == 0:
        return [first, *_warnings(board)]
    if board.groups < 2:
        return [first, ONE_GROUP]
    level, held = f"{100 * board.level:g}%", len(board.confidence_set)
    second = f"{held} of {compared} candidates may be best (model confidence set at {level})."
    if board.detectable is not None:
        second += (
            f" With {board.groups} groups a gap of {format_decimal(board.detectable.median)} to the"
            f" first is detected with power {POWER:g}."
        )
    if board.groups < min(COVERAGE):
        second += f" Trust intervals of so few groups ({board.groups}) less than their level."
    return [first, second]


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
        ' "better", "lower": shown to be above or below the reference.'
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


def _confidence_set(board: Leaderboard) -> list[str]:
    """Say which candidates cannot be distinguished from the first, and what could be."""
    compared = sum(not math.isnan(row.examined) for row in board.rows)
    if compared < 2 or board.groups < 2:
        return []
    level, held = f"{100 * board.level:g}%", len(board.confidence_set)
    shown = (
        f"{held} of {compared} candidates may be best (model confidence set at {level}, p above"
        f" {1 - board.level:.2g}): they cannot be distinguished from the first."
        f"{' The others are shown to be lower.' if held < compared else ''}"
        f" {set_errors_with(board.groups, compared)}"
    )
    could = board.detectable
    if could is None:
        return [shown]
    gap = (
        f"Smallest gap to the first that these {board.groups} groups detect with power {POWER:g}"
        f" at {100 * could.level:.4g}%: {format_decimal(could.median)}"
    )
    if compared > 2:
        same = compared - 1 - could.candidates
        left_out = f" but {same} that score as the first in every group" if same else ""
        gap += (
            f" (median of {could.candidates} candidates{left_out}; {format_decimal(could.low)} to"
            f" {format_decimal(could.high)})"
        )
    return [shown, f"{gap}."]


def _warnings(board: Leaderboard) -> list[str]:
    if all(math.isnan(row.examined) for row in board.rows):
        return [f"No pixel of {board.split} can be scored, so there are no scores."]
    coverage = coverage_with(board.groups) if board.groups > 1 else None
    return [] if coverage is None else [coverage]
