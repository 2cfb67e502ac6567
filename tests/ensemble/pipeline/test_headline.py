"""The first screen of the page: each statement follows from the leaderboard's numbers."""

import math
from dataclasses import replace

import numpy as np
import pytest

from ensemble.pipeline.report.classes import ClassChange
from ensemble.pipeline.report.headline import headline
from ensemble.pipeline.report.leaderboard import (
    cost_figure,
    gap_of,
    leaderboard_table,
    table_notes,
)
from evaluation.class_gains import ClassGain
from evaluation.formatting import format_decimal
from evaluation.intervals import Interval
from tests.evaluation.test_leaderboard import CLASSES, FOUR, board, candidate, scored

GAIN = "Gain over the best single member"
ONE_GROUP = np.zeros(24, int)


def facts(result, name=None, *, changes=(), networks="", **changed):
    row = next(row for row in result.rows if row.name == (name or result.rows[0].name))
    if changed:
        new = replace(row, **changed)
        result = replace(result, rows=tuple(new if r is row else r for r in result.rows))
        row = new
    said = headline(result, row, CLASSES, 1234, changes, networks)
    return {fact.head: f"{fact.value} | {fact.sentence}" for fact in said}


def in_one_group():
    return [replace(one, examined=replace(one.examined, groups=ONE_GROUP)) for one in FOUR]


def groups_of(number):
    groups = np.arange(24) % number
    return [replace(one, examined=replace(one.examined, groups=groups)) for one in FOUR]


def nothing_scored():
    empty = replace(scored(0.5), counts=np.zeros((24, 3, 3), int))
    return [replace(one, examined=empty) for one in FOUR]


@pytest.mark.parametrize(
    ("result", "name", "label", "words"),
    [
        (
            board(),
            "mean",
            "Compared",
            "4 candidates on 1,234 images | By masked mIoU over 2 classes",
        ),
        (board(), "mean", "Chosen", "Chosen on out-of-fold images; on validation it scores"),
        (board(), "lucky", "Candidate explained", "; mean is the chosen one."),
        (board(split="oof"), "mean", "Chosen", "Chosen on the same images, on which it scores"),
        (board(FOUR[2:]), "mean", GAIN, "none | No single member is among the candidates."),
        (board(), "unet", GAIN, "none | unet is the best single member itself."),
        (board(in_one_group()), "mean", GAIN, "all images are of one group, so it has no interval"),
        (board(), "mean", GAIN, "is significant: its interval, "),
        (board(), "lucky", GAIN, " % (adjusted for the number of candidates), "),
        (board(groups_of(6)), "mean", "Compared", "6 groups. With fewer than 8 groups, all interv"),
        (board(in_one_group()), "mean", "May be best", "one group of images tells no candidates"),
        (board(nothing_scored()), "mean", "May be best", "unknown | No pixel can be scored."),
        (
            board(),
            "mean",
            "May be best",
            "lucky is the highest here; 3 others are significantly low",
        ),
        (board(FOUR[:2]), "aspp", "May be best", "; 1 other is significantly lower"),
        (board(), "mean", "Cost", "1 member | Its time is not known: a network it needs is not"),
    ],
)
def test_each_statement_says_what_the_leaderboard_shows(result, name, label, words):
    given = {"members": ("unet",)} if label == "Cost" else {}
    assert words in facts(result, name, **given)[label]


def test_candidates_that_cannot_be_told_apart_are_one_set():
    equal = [candidate("a", 0.6, 0.6, is_member=True), candidate("b", 0.6, 0.5)]
    said = facts(board(equal))["May be best"]
    assert said.startswith("2 of 2 candidates | ")
    assert "the others in the set cannot be distinguished from it." in said


@pytest.mark.parametrize(
    ("gain", "better", "words"),
    [
        ((0.1, 0.05, 0.15), True, "+.100, significant | The gain over unet, the highest member"),
        ((0.1, -0.01, 0.2), True, "+.100, significant | The gain .* by a step-down test at 95 %"),
        ((-0.1, -0.2, -0.05), False, "-.100, significant | The loss against .* excludes 0."),
        ((0.1, -0.01, 0.2), False, "+.100, not significant | The gain over .* at 95 %, holds 0."),
        ((-0.1, -0.2, 0.01), False, "-.100, not significant | The loss against .* holds 0."),
    ],
)
def test_a_gain_is_significant_where_its_interval_or_the_test_says_so(gain, better, words):
    value, low, high = gain
    interval = Interval(low, high, 0.95)
    said = facts(board(), "mean", gain=value, gain_interval=interval, better=better)[GAIN]
    head, *rest = words.split(" .* ")
    assert said.startswith(head)
    assert all(part in said for part in rest)


def change(name, gain):
    interval = Interval(gain - 0.01, gain + 0.01, 0.95) if gain > -0.15 else None
    return ClassChange(name, 0.5, ClassGain(0.5, 0.5 + gain, gain, interval), None)


@pytest.mark.parametrize(
    ("gains", "words"),
    [
        ([math.nan, math.nan], "unknown | No class can be compared. rock is the hardest class of"),
        ([0.1, 0.2], "no class loses | sand gains least, +.100; rock gains most, +.200."),
        ([-0.1, 0.2], "sand loses most | sand changes by -.100 (significant), the only one that"),
        (
            [-0.1, -0.2],
            "rock loses most | rock changes by -.200 (not significant), one of 2 that lose; sand ",
        ),
    ],
)
def test_classes_that_lose_are_counted(gains, words):
    changes = [change(name, gain) for name, gain in zip(("sand", "rock"), gains, strict=True)]
    said = facts(board(), "mean", changes=changes)
    assert next(text for label, text in said.items() if label.startswith("Classes")).startswith(
        words
    )


def test_the_hardest_class_is_named_with_its_interval_also_where_a_member_wins():
    row = next(row for row in board().rows if row.name == "unet")
    name = min(row.iou, key=row.iou.get)
    low, high = row.iou_intervals[name].low, row.iou_intervals[name].high
    said = facts(board(), "unet")["Classes"]
    ends = f"({format_decimal(low)} to {format_decimal(high)} at 95 %)"
    assert said == (
        f"{name} is hardest | {name} is the hardest class of unet: IoU"
        f" {format_decimal(row.iou[name])} {ends}."
    )
    assert facts(board(nothing_scored()), "unet")["Classes"].startswith("unknown")


def test_the_cost_counts_the_networks_behind_the_members():
    said = facts(board(), "mean", milliseconds=3.0, members=("a",), networks="3 fold networks")
    assert "through 1 member (3 fold networks)" in said["Cost"]


@pytest.mark.parametrize("result", [board(), board(FOUR[:1]), board(groups_of(6))])
def test_notes_of_the_table_are_of_its_own_gaps_and_of_others_only_where_there_are_some(result):
    notes = "\n".join(table_notes(result))
    assert "Gaps are to the first" not in notes
    if result.gap_level > result.level:
        assert f"{100 * result.gap_level:.4g}%" not in notes
    lower = any(row.verdict == "lower" for row in result.rows)
    assert ("The others are significantly lower." in notes) == lower
    assert "significant: the interval of a difference excludes 0" in notes


def test_candidates_of_the_same_labels_say_so_in_the_table():
    table = leaderboard_table(board(), {"mean": "unet"})
    notes = {row.cells[0].text: row.cells[0].note for row in table.rows}
    assert notes.pop("mean") == "same labels as unet"
    assert not any(notes.values())


def test_a_cost_is_compared_with_the_best_single_member():
    costs = {one.name: 10.0 * (number + 1) for number, one in enumerate(FOUR)}
    result = board([replace(one, milliseconds=costs[one.name], members=("unet",)) for one in FOUR])
    assert (
        "Each image takes 10.0 ms on one core, through 1 member." in facts(result, "unet")["Cost"]
    )
    assert facts(result, "mean")["Cost"].endswith(", 3 times what unet takes.")


class TestWithoutAChosenCandidate:
    RESULT = board([candidate("a", 0.5, is_member=True), candidate("b", 0.6, is_member=True)])

    def test_gaps_are_to_the_first_and_the_notes_say_so(self):
        first, second = self.RESULT.rows
        assert math.isnan(gap_of(self.RESULT, first)[0])
        assert gap_of(self.RESULT, second) == (second.gap.value, second.gap.interval)
        marks, _, to_first, *_ = table_notes(self.RESULT)
        assert "The vertical line is the first candidate." in marks
        assert to_first == "Intervals of gaps hold for all pairs of candidates together at 95 %."

    def test_a_candidate_that_is_explained_is_not_called_chosen(self):
        assert "is the chosen one" not in facts(self.RESULT, "a")["Candidate explained"]

    def test_without_a_cost_there_is_no_figure_of_it(self):
        assert cost_figure(self.RESULT) is None


def test_a_row_that_cannot_be_scored_has_no_verdict():
    table = leaderboard_table(board(nothing_scored()))
    texts = [cell.text for row in table.rows for cell in row.cells]
    assert not {"first", "may be best", "lower"} & set(texts)
