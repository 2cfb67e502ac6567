"""The first screen of the page: what was compared, what was chosen, what it gained, its cost."""

import math
from collections.abc import Sequence

from ensemble.pipeline.report.classes import ClassChange
from evaluation.core.classes import Classes
from evaluation.core.errors import format_count
from evaluation.core.run_folder import OOF
from evaluation.formatting import format_decimal, format_interval
from evaluation.leaderboard import Leaderboard, LeaderboardRow
from evaluation.report.page import Fact
from evaluation.run_metric import metric_label


def headline(
    board: Leaderboard,
    row: LeaderboardRow,
    classes: Classes,
    images: int,
    changes: Sequence[ClassChange],
) -> list[Fact]:
    """Return the statements of the first screen, a sentence each.

    Args:
        board: of all candidates.
        row: the candidate that the page explains.
        classes: of the run.
        images: number of images of the split.
        changes: of each class from the best single member to the candidate; empty if it is one.
    """
    return [
        _compared(board, classes, images),
        _explained(board, row),
        _gain(board, row),
        _set(board),
        *([_classes(changes, board)] if changes else []),
        _cost(board, row),
    ]


def _compared(board: Leaderboard, classes: Classes, images: int) -> Fact:
    scored = f"{len(classes.scored)} classes"
    ignored = "" if classes.ignore is None else f", {classes.names[classes.ignore]} ignored"
    count = format_count(len(board.rows), "candidate")
    return Fact(
        "Compared",
        f"{count} on {images:,} images",
        f"By {metric_label(board.protocol)} over {scored}{ignored}, on {board.split}, whose images"
        f" come from {format_count(board.groups, 'group')}.",
    )


def _explained(board: Leaderboard, row: LeaderboardRow) -> Fact:
    score = format_decimal(row.examined)
    interval = "" if row.interval is None else f" ({format_interval(row.interval)})"
    level = "" if row.interval is None else f" at {100 * board.level:g} %"
    scores = f"it scores {score}{interval}{level}"
    head, sentence = "Chosen", f"Chosen on out-of-fold images; on {board.split} {scores}."
    if not row.chosen:
        head, sentence = "Candidate shown", f"{scores[0].upper()}{scores[1:]}."
        if board.chosen:
            sentence = f"{sentence[:-1]}; {board.chosen} is the chosen one."
    elif board.split == OOF:
        sentence = f"Chosen on the same images, on which {scores}, so that is optimistic."
    return Fact(head, f"{row.name}: {score}", sentence)


def _gain(board: Leaderboard, row: LeaderboardRow) -> Fact:
    head = "Gain over the best single member"
    if board.reference is None:
        return Fact(head, "none", "No single member is among the candidates.")
    if row.reference:
        return Fact(head, "none", f"{row.name} is the best single member itself.")
    value = format_decimal(row.gain, "+")
    over = f"{board.reference}, the highest member on {board.reference_on}"
    if row.gain_interval is None:
        words = f"Over {over}; all images are of one group, so it has no interval."
        return Fact(head, value, words)
    interval = format_interval(row.gain_interval, "+")
    if row.better and row.gain_interval.low > 0:
        words = f"The gain over {over}, is shown: its interval, {interval}, excludes 0."
    elif row.better:
        words = f"The gain over {over}, is shown by a step-down test ({interval})."
    elif row.gain_interval.high < 0:
        words = f"A loss against {over}, is shown: its interval, {interval}, excludes 0."
    else:
        words = f"A gain over {over}, is not shown: its interval, {interval}, holds 0."
    shown = row.better or row.gain_interval.high < 0
    return Fact(head, f"{value}, {'shown' if shown else 'not shown'}", words)


def _set(board: Leaderboard) -> Fact:
    names = board.confidence_set
    first = next((row for row in board.rows if row.verdict == "first"), None)
    if first is None:
        return Fact("May be best", "unknown", "No pixel can be scored.")
    if board.groups < 2:
        words = f"{first.name} is the highest, and one group of images tells no candidates apart."
        return Fact("May be best", first.name, words)
    lower = sum(row.verdict == "lower" for row in board.rows)
    told = f"{lower} others are" if lower > 1 else "1 other is"
    words = f"{first.name} is the highest here"
    if len(names) > 1:
        words += ", and the others in the set cannot be distinguished from it"
    if lower:
        words += f"; {told} shown to be lower"
    count = format_count(len(board.rows), "candidate")
    return Fact("May be best", f"{len(names)} of {count}", f"{words}.")


def _classes(changes: Sequence[ClassChange], board: Leaderboard) -> Fact:
    known = [change for change in changes if not math.isnan(change.gain.gain)]
    if not known:
        return Fact("Classes", "unknown", "No class can be scored.")
    worst = min(known, key=lambda change: change.gain.gain)
    best = max(known, key=lambda change: change.gain.gain)
    losers = [change for change in known if change.gain.gain < 0]
    if not losers:
        value = "no class loses"
        words = f"{worst.name} gains least, {format_decimal(worst.gain.gain, '+')}"
    else:
        value = f"{worst.name} loses most"
        shown = "shown" if worst.gain.shown else "not shown"
        count = f"one of {len(losers)} that lose" if len(losers) > 1 else "the only one that loses"
        words = f"{worst.name} changes by {format_decimal(worst.gain.gain, '+')} ({shown}), {count}"
    most = "gains most" if best.gain.gain >= 0 else "loses least"
    best_words = f"{best.name} {most}, {format_decimal(best.gain.gain, '+')}"
    return Fact(f"Classes, against {board.reference}", value, f"{words}; {best_words}.")


def _cost(board: Leaderboard, row: LeaderboardRow) -> Fact:
    members = format_count(len(row.members), "member")
    if math.isnan(row.milliseconds):
        return Fact("Cost", members, "Its time is not known: a network it needs is not here.")
    reference = next((other for other in board.rows if other.reference), row)
    words = f"Each image takes {row.milliseconds:.1f} ms on one core, through {members}"
    if reference is not row and reference.milliseconds > 0:
        times = row.milliseconds / reference.milliseconds
        words += f", {times:.2g} times what {reference.name} takes"
    return Fact("Cost", f"{row.milliseconds:.1f} ms per image", f"{words}.")
