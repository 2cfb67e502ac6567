"""What a leaderboard says below its table."""

import math

from evaluation.cells import decimal
from evaluation.choice import OOF
from evaluation.gaps import pairs_of
from evaluation.leaderboard import Leaderboard
from evaluation.tried import erred_with, tried_with

COST = (
    "ms: a picture through the networks of all folds, the fusion and the chain, on one core of this"
    ' machine. "front": nobody scores as high at less cost.'
)
TOO_FEW = " No gap can be told from chance with so few groups for so many candidates."
ONE_GROUP = "All pictures are of one group, so there are no intervals."


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
            f"* chosen, the highest on oof: {row.name}; examined on the same pictures, so its score"
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
        f"Intervals: over {board.groups} groups of pictures; scores at {level}; {gains}."
        ' "better": the paired interval lies above 0.'
    )


def _tests(board: Leaderboard) -> list[str]:
    if board.groups < 2:
        return [ONE_GROUP]
    level, error = f"{100 * board.level:g}%", f"{1 - board.level:.2g}"
    gaps = (
        f"Gaps are to the first, over {board.groups} groups of pictures; intervals at {level} each."
        f' "open": cannot be told from the first; "lower": p is {error} or less.'
    )
    tests = (
        f"p: sign-flip test (at 5%, {erred_with(board.groups)}); Holm's correction over every pair"
        f" ({pairs_of(len(board.rows))}), since the first was found by looking."
    )
    return [gaps, tests + (TOO_FEW if _too_few(board) else "")]


def _warnings(board: Leaderboard) -> list[str]:
    """Say what makes the numbers worth less than they look."""
    if all(math.isnan(row.examined) for row in board.rows):
        return [f"No pixel of {board.split} can be scored, so there are no scores."]
    tried = tried_with(board.groups) if board.groups > 1 else None
    return [] if tried is None else [tried]


def _too_few(board: Leaderboard) -> bool:
    """Tell whether even the clearest gap has a corrected p-value above the level."""
    clearest = 2.0 ** (1 - board.groups)
    return clearest * pairs_of(len(board.rows)) > 1 - board.level
