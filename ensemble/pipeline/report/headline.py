"""The first screen of the page: what was compared, what was chosen, what it gained, its cost."""

import math
from collections.abc import Sequence

from ensemble.pipeline.report.classes import ClassChange, class_score
from evaluation.core.classes import Classes
from evaluation.core.errors import format_count
from evaluation.core.run_folder import OOF
from evaluation.formatting import format_decimal, format_interval
from evaluation.intervals import Interval
from evaluation.leaderboard import Leaderboard, LeaderboardRow
from evaluation.leaderboard_notes import COVERAGE
from evaluation.report.page import Fact
from evaluation.run_metric import metric_label

FEW_GROUPS = min(COVERAGE)
"""With fewer groups, nobody has measured how often the intervals hold."""


def headline(
    board: Leaderboard,
    row: LeaderboardRow,
    classes: Classes,
    images: int,
    changes: Sequence[ClassChange],
    networks: str,
) -> list[Fact]:
    """Return the statements of the first screen, a sentence each.

    Args:
        board: of all candidates.
        row: the candidate that the page explains.
        classes: of the run.
        images: number of images of the split.
        changes: of each class from the best single member to the candidate; empty if it is one.
        networks: words for the networks of the candidate's members; empty if not known.
    """
    return [
        _compared(board, classes, images),
        _explained(board, row),
        _gain(board, row),
        _set(board),
        _classes(changes, board, row),
        _cost(board, row, networks),
    ]


def _compared(board: Leaderboard, classes: Classes, images: int) -> Fact:
    scored = f"{len(classes.scored)} classes"
    ignored = "" if classes.ignore is None else f", {classes.names[classes.ignore]} ignored"
    count = format_count(len(board.rows), "candidate")
    words = (
        f"By {metric_label(board.protocol)} over {scored}{ignored}, on {board.split}, whose images"
        f" come from {format_count(board.groups, 'group')}."
    )
    if 1 < board.groups < FEW_GROUPS:
        words += f" With fewer than {FEW_GROUPS} groups, all intervals are to be trusted less."
    return Fact("Compared", f"{count} on {images:,} images", words)


def _explained(board: Leaderboard, row: LeaderboardRow) -> Fact:
    score = format_decimal(row.examined)
    interval = "" if row.interval is None else f" ({format_interval(row.interval)})"
    level = "" if row.interval is None else f" at {100 * board.level:g} %"
    scores = f"it scores {score}{interval}{level}"
    head, sentence = "Chosen", f"Chosen on out-of-fold images; on {board.split} {scores}."
    if not row.chosen:
        head, sentence = "Candidate explained", f"{scores[0].upper()}{scores[1:]}."
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
    interval = _with_level(row.gain_interval, board.level)
    if row.better and row.gain_interval.low > 0:
        words = f"The gain over {over}, is significant: its interval, {interval}, excludes 0."
    elif row.better:
        words = (
            f"The gain over {over}, is significant by a step-down test at {100 * board.level:g} %"
            f" for all candidates together; its interval alone is {interval}."
        )
    elif row.gain_interval.high < 0:
        words = f"The loss against {over}, is significant: its interval, {interval}, excludes 0."
    else:
        what = "loss against" if row.gain < 0 else "gain over"
        words = f"The {what} {over}, is not significant: its interval, {interval}, holds 0."
    significant = row.better or row.gain_interval.high < 0
    return Fact(head, f"{value}, {'significant' if significant else 'not significant'}", words)


def _with_level(interval: Interval, level: float) -> str:
    """Write a difference's interval with its level, adjusted where it is above that of one."""
    words = f"{format_interval(interval, '+')} at {100 * interval.level:.4g} %"
    return f"{words} (adjusted for the number of candidates)" if interval.level > level else words


def _set(board: Leaderboard) -> Fact:
    names = board.confidence_set
    first = next((row for row in board.rows if row.verdict == "first"), None)
    if first is None:
        return Fact("May be best", "unknown", "No pixel can be scored.")
    if board.groups < 2:
        words = f"{first.name} is the highest, and one group of images tells no candidates apart."
        return Fact("May be best", first.name, words)
    lower = sum(row.verdict == "lower" for row in board.rows)
    others = f"{lower} others are" if lower > 1 else "1 other is"
    words = f"{first.name} is the highest here"
    if len(names) > 1:
        words += ", and the others in the set cannot be distinguished from it"
    if lower:
        words += f"; {others} significantly lower"
    count = format_count(len(board.rows), "candidate")
    return Fact("May be best", f"{len(names)} of {count}", f"{words}.")


def _classes(changes: Sequence[ClassChange], board: Leaderboard, row: LeaderboardRow) -> Fact:
    """Say which class suffers: the hardest, and where there are changes, those that lose."""
    scores = {name: value for name, value in row.iou.items() if value is not None}
    if not scores:
        return Fact("Classes", "unknown", "No class can be scored.")
    name = min(scores, key=scores.__getitem__)
    interval = row.iou_intervals.get(name)
    ends = f" ({format_interval(interval)} at {100 * board.level:g} %)" if interval else ""
    hardest = (
        f"{name} is the hardest class of {row.name}: {class_score(board.protocol)}"
        f" {format_decimal(scores[name])}{ends}."
    )
    if not changes:
        return Fact("Classes", f"{name} is hardest", hardest)
    return _class_changes(changes, board, hardest)


def _class_changes(changes: Sequence[ClassChange], board: Leaderboard, hardest: str) -> Fact:
    known = [change for change in changes if not math.isnan(change.gain.gain)]
    if not known:
        return Fact("Classes", "unknown", f"No class can be compared. {hardest}")
    worst = min(known, key=lambda change: change.gain.gain)
    best = max(known, key=lambda change: change.gain.gain)
    losers = [change for change in known if change.gain.gain < 0]
    if not losers:
        value = "no class loses"
        words = f"{worst.name} gains least, {format_decimal(worst.gain.gain, '+')}"
    else:
        value = f"{worst.name} loses most"
        sure = "significant" if worst.gain.significant else "not significant"
        count = f"one of {len(losers)} that lose" if len(losers) > 1 else "the only one that loses"
        words = f"{worst.name} changes by {format_decimal(worst.gain.gain, '+')} ({sure}), {count}"
    most = "gains most" if best.gain.gain >= 0 else "loses least"
    best_words = f"{best.name} {most}, {format_decimal(best.gain.gain, '+')}"
    sentence = f"{words}; {best_words}. {hardest}"
    return Fact(f"Classes, against {board.reference}", value, sentence)


def _cost(board: Leaderboard, row: LeaderboardRow, networks: str) -> Fact:
    members = format_count(len(row.members), "member") + (f" ({networks})" if networks else "")
    if math.isnan(row.milliseconds):
        return Fact("Cost", members, "Its time is not known: a network it needs is not here.")
    reference = next((other for other in board.rows if other.reference), row)
    words = f"Each image takes {row.milliseconds:.1f} ms on one core, through {members}"
    if reference is not row and reference.milliseconds > 0:
        times = row.milliseconds / reference.milliseconds
        words += f", {times:.2g} times what {reference.name} takes"
    return Fact("Cost", f"{row.milliseconds:.1f} ms per image", f"{words}.")
