"""The leaderboard: what is chosen, what it is compared with, and when it says better."""

import json
import math
from dataclasses import replace

import numpy as np
import pytest

from ensemble.pipeline.report.leaderboard import leaderboard_table
from evaluation.core.classes import Classes
from evaluation.core.errors import BadData, BadSpec
from evaluation.formatting import format_decimal
from evaluation.leaderboard import Candidate, compare
from evaluation.leaderboard_notes import brief_notes, coverage_with
from evaluation.leaderboard_text import (
    format_leaderboard,
    format_ranking,
)
from evaluation.protocols import PROTOCOLS, score_images
from evaluation.scores import ScoredImages

CLASSES = Classes(("sky", "sand", "rock"), ignore=0)
IMAGES = 24
IDS = tuple(f"p{index}" for index in range(IMAGES))


def scored(share, *, seed=0, ids=IDS, groups=None):
    """About `share` of each image's 100 pixels right; hard images are hard for everyone."""
    hits = np.clip(100 * share + np.random.default_rng(seed).integers(-20, 21, IMAGES), 0, 100)
    counts = np.zeros((IMAGES, 3, 3), int)
    for label, other in ((1, 2), (2, 0)):
        counts[:, label, label], counts[:, label, other] = hits, 100 - hits
    return ScoredImages(counts, ids, np.arange(IMAGES) // 2 if groups is None else groups)


def candidate(name, examined, oof=None, *, is_member=False):
    return Candidate(
        name, scored(examined), None if oof is None else scored(oof, seed=1), is_member
    )


FOUR = [
    candidate("unet", 0.5, 0.50, is_member=True),
    candidate("aspp", 0.55, 0.49, is_member=True),
    candidate("mean", 0.6, 0.65),
    candidate("lucky", 0.7, 0.45),
]

TWO = [("a", 0.5), ("b", 0.6)]


def board(candidates=FOUR, **options):
    return compare(candidates, CLASSES, rng=np.random.default_rng(0), **options)


def rows_of(result):
    return {row.name: row for row in result.rows}


def test_a_board_of_oof_has_its_column_once():
    head = format_leaderboard(board(split="oof")).splitlines()[0]
    assert head.split()[:3] == ["candidate", "oof", "95%"]


@pytest.mark.parametrize(("protocol", "second"), [("masked", "keras"), ("keras", "masked")])
def test_the_page_shows_another_protocol_beside_the_deciding_one(protocol, second):
    result = board(protocol=protocol)
    table = leaderboard_table(result)
    column = [one.head for one in table.columns].index(second)
    shown = [row.cells[column].text for row in table.rows]
    assert shown == [format_decimal(row.others[second]) for row in result.rows]


class TestChoice:
    @pytest.mark.parametrize("order", [1, -1])
    def test_of_equals_a_member_is_chosen_in_whatever_order_they_come(self, order):
        equal = [candidate("b", 0.5, 0.6, is_member=True), candidate("c", 0.5, 0.6, is_member=True)]
        equal = [candidate("a", 0.5, 0.6), *equal]
        assert board(equal[::order]).chosen == "b"

    def test_rows_are_sorted_by_the_examined_score(self):
        assert [row.name for row in board().rows] == ["lucky", "mean", "aspp", "unet"]

    def test_the_chosen_one_is_the_highest_on_oof_and_not_on_the_examined_split(self):
        assert board().chosen == "mean"
        assert [row.name for row in board().rows if row.chosen] == ["mean"]

    def test_the_reference_is_the_member_that_is_highest_on_oof(self):
        result = board()
        assert (result.reference, result.reference_on) == ("unet", "oof")
        assert rows_of(result)["unet"].reference

    def test_optimism_is_the_chosen_ones_oof_score_minus_its_examined_score(self):
        result = board()
        chosen = rows_of(result)["mean"]
        assert result.optimism == chosen.oof - chosen.examined
        assert result.optimism > 0

    def test_without_oof_nothing_is_chosen_and_the_reference_is_picked_where_it_is_examined(self):
        result = board([candidate("a", 0.5, is_member=True), candidate("b", 0.6, is_member=True)])
        assert (result.chosen, result.reference, result.reference_on) == (None, "b", "validation")
        assert math.isnan(result.optimism)
        assert math.isnan(result.rows[0].oof)

    def test_without_members_there_are_no_gains(self):
        result = board([candidate("a", 0.5, 0.5), candidate("b", 0.6, 0.6)])
        assert result.reference is None
        assert all(math.isnan(row.gain) and row.gain_interval is None for row in result.rows)

    def test_on_oof_itself_the_optimism_is_unknown(self):
        assert math.isnan(board(split="oof").optimism)


class TestIntervals:
    def test_a_gain_is_the_difference_to_the_reference_and_lies_in_its_interval(self):
        rows = rows_of(board())
        for name in ("aspp", "mean", "lucky"):
            row = rows[name]
            assert row.gain == pytest.approx(row.examined - rows["unet"].examined)
            assert row.gain_interval.low <= row.gain <= row.gain_interval.high

    def test_the_reference_has_no_gain(self):
        row = rows_of(board())["unet"]
        assert math.isnan(row.gain)
        assert row.gain_interval is None
        assert not row.better

    def test_a_candidate_is_better_exactly_if_the_paired_interval_lies_above_0(self):
        close = candidate("close", 0.5, 0.4)
        worse = candidate("worse", 0.3, 0.4)
        noisy = Candidate("noisy", scored(0.51, seed=9), scored(0.4))
        rows = rows_of(board([*FOUR, close, worse, noisy]))
        better = {name for name, row in rows.items() if row.better}
        assert better == {"aspp", "mean", "lucky"}
        assert rows["close"].gain_interval.low == 0
        assert rows["noisy"].gain > 0 > rows["noisy"].gain_interval.low
        assert rows["worse"].gain_interval.high < 0

    def test_the_chosen_ones_gain_is_at_the_level_and_the_others_are_corrected(self):
        result = board()
        levels = {row.name: row.gain_interval.level for row in result.rows if row.gain_interval}
        assert levels["mean"] == 0.95
        assert levels["aspp"] == levels["lucky"] == result.gain_level
        assert 0.95 < result.gain_level < 0.98

    @pytest.mark.parametrize("split", ["oof", "validation"])
    def test_without_a_choice_made_elsewhere_every_gain_is_corrected(self, split):
        alone = [Candidate(c.name, c.examined, None, c.is_member) for c in FOUR]
        result = board(FOUR if split == "oof" else alone, split=split)
        levels = [row.gain_interval.level for row in result.rows if row.gain_interval]
        assert levels == [result.gain_level] * 3
        assert result.gain_level == result.gap_level > 0.97

    def test_one_group_has_no_interval(self):
        one = np.zeros(IMAGES, int)
        result = board([Candidate(n, scored(s, groups=one), None, True) for n, s in TWO])
        assert result.groups == 1
        assert all(row.interval is None and not row.better for row in result.rows)
        assert "All images are of one group, so there are no intervals." in format_leaderboard(
            result
        )


@pytest.mark.parametrize("protocol", sorted(PROTOCOLS))
def test_scores_are_given_under_the_protocol_and_all_others(protocol):
    row = rows_of(board(protocol=protocol))["mean"]
    counts = FOUR[2].examined.counts
    expected = {n: float(score_images(PROTOCOLS.build(n), counts, 0).miou) for n in PROTOCOLS}
    assert {protocol: row.examined, **row.others} == pytest.approx(expected)


class TestRefuses:
    def test_no_candidate_is_refused(self):
        with pytest.raises(BadData, match="no candidate to compare"):
            board([])

    @pytest.mark.parametrize("change", [{"ids": IDS[::-1]}, {"groups": np.arange(IMAGES)}])
    def test_candidates_scored_on_different_images_are_refused(self, change):
        other = Candidate("b", scored(0.5, **change))
        with pytest.raises(
            BadData, match="candidates 'a' and 'b' were scored on different images of validation"
        ):
            board([candidate("a", 0.5), other])

    def test_an_unknown_protocol_is_refused(self):
        with pytest.raises(BadSpec, match="unknown protocol 'best'"):
            board(protocol="best")


class TestText:
    def test_every_row_is_one_line_with_all_its_columns(self):
        lines = format_leaderboard(board()).splitlines()
        head, _, *rows = lines[:6]
        assert head.split() == [
            *(
                "candidate",
                "oof",
                "validation",
                "95%",
                "interval",
                "gain",
                "interval",
                "of",
                "gain",
            ),
            *("verdict", "sand", "rock", "keras"),
        ]
        for line, row in zip(rows, board().rows, strict=True):
            assert row.name in line
            assert line.endswith(f"{row.others['keras']:.3f}".removeprefix("0"))
        assert len({len(line) for line in (head, *rows)}) == 1

    def test_a_long_name_is_not_cut(self):
        name = "mean+suppress_background|crf(iterations=5)|" * 4
        text = format_leaderboard(board([candidate(name, 0.5, 0.5, is_member=True)]))
        assert name in text.splitlines()[2]

    def test_only_the_chosen_one_is_marked(self):
        marked = [line for line in format_leaderboard(board()).splitlines()[2:6] if line[0] == "*"]
        assert len(marked) == 1
        assert "mean" in marked[0]

    def test_the_notes_name_the_split_on_which_the_reference_was_chosen(self):
        text = format_leaderboard(board())
        assert "Gains are over unet, the highest single member on oof." in text
        assert "optimism +." in text
        alone = format_leaderboard(board([candidate("a", 0.5, is_member=True)]))
        assert "the highest single member on validation" in alone
        assert "none is chosen" in alone

    def test_a_missing_score_is_a_dash(self):
        line = format_leaderboard(board([candidate("a", 0.5)])).splitlines()[2]
        assert line.split()[:2] == ["a", "-"]


def test_the_document_is_json_without_nan():
    document = board([candidate("a", 0.5, is_member=True)]).to_dict()
    row = json.loads(json.dumps(document, allow_nan=False))["candidates"][0]
    assert row["oof"] is None
    assert row["gain_interval"] is None
    assert row["interval"]["level"] == 0.95


def test_the_frame_has_one_row_per_candidate_with_the_numbers_of_the_board():
    result = board()
    frame = result.to_frame()
    assert list(frame.index) == [row.name for row in result.rows]
    assert frame.loc["mean", "validation"] == rows_of(result)["mean"].examined
    assert frame.loc["mean", "gain_low"] == rows_of(result)["mean"].gain_interval.low
    assert frame.loc["mean", "iou rock"] == rows_of(result)["mean"].iou["rock"]


class TestRanking:
    def test_without_a_score_no_candidate_is_first(self):
        nothing = ScoredImages(np.zeros((IMAGES, 3, 3), int), IDS, np.arange(IMAGES))
        result = board([Candidate(name, nothing, is_member=True) for name in ("a", "b")])
        assert [row.verdict for row in result.rows] == ["", ""]
        assert "first" not in format_ranking(result).splitlines()[2]
        assert result.to_frame()["gap"].isna().all()

    def test_the_first_has_no_gap_and_the_others_have_theirs(self):
        rows = board().rows
        assert rows[0].gap is None
        for row in rows[1:]:
            assert row.gap.value == pytest.approx(row.examined - rows[0].examined)
            assert row.gap.interval.level == board().gap_level > 0.95

    def test_the_front_is_of_score_against_cost(self):
        priced = [
            replace(one, milliseconds=ms, members=("unet",))
            for one, ms in zip(FOUR, (1.0, 3.0, math.nan, 3.0), strict=True)
        ]
        front = {row.name for row in board(priced).rows if row.on_pareto_front}
        assert front == {"unet", "lucky"}

    def test_every_row_is_one_line_with_gap_verdict_cost_and_members(self):
        priced = replace(FOUR[3], milliseconds=12.34, members=("unet", "aspp"))
        ranked = board([*FOUR[:3], priced])
        head, _, first, *others = format_ranking(ranked).splitlines()[:6]
        assert head.split() == [
            *("candidate", "validation", "95%", "interval", "gap", "interval", "of", "gap", "p"),
            *("ms", "members", "sand", "rock", "keras"),
        ]
        assert first.split()[5:12] == ["-", "-", "-", "first", "12.3", "2", "front"]
        assert [line.split()[-6] for line in others] == ["lower", "lower", "lower"]
        assert all(line.split()[-5:-3] == ["-", "-"] for line in others)

    def test_a_candidate_whose_gap_may_be_chance_may_be_best(self):
        noisy = Candidate("noisy", scored(0.7, seed=9))
        result = board([FOUR[3], noisy, FOUR[0]])
        lines = format_ranking(result).splitlines()
        assert "first" in lines[2]
        assert "may be best" in lines[3]
        assert "lower" in lines[4]
        assert set(result.confidence_set) == {"lucky", "noisy"}
        assert result.to_dict()["confidence_set"]["candidates"] == list(result.confidence_set)

    def test_with_few_groups_the_notes_give_the_simulated_coverage(self):
        assert "12 groups: in simulations with 8" in format_ranking(board())
        assert "12 groups: in simulations with 8" in format_leaderboard(board())

    @pytest.mark.parametrize("form", [format_ranking, format_leaderboard])
    def test_the_notes_count_the_set_and_say_which_gap_could_be_detected(self, form):
        text = form(board())
        assert "1 of 4 candidates may be best (model confidence set at 95%, p above 0.05)" in text
        assert "In simulations of 24 groups and 5 equal candidates the set lacked one in" in text
        smallest = board().detectable
        gap = f"{smallest.median:.3f}".removeprefix("0")
        assert "Smallest gap to the first that these 12 groups detect with power 0.8 at" in text
        assert f": {gap} (median of 3 candidates;" in text

    def test_one_group_has_no_interval_and_says_so(self):
        one = np.zeros(IMAGES, int)
        text = format_ranking(board([Candidate(n, scored(s, groups=one)) for n, s in TWO]))
        assert "All images are of one group, so there are no intervals." in text
        assert "simulations" not in text
        brief = brief_notes(board([Candidate(n, scored(s, groups=one)) for n, s in TWO]))
        assert brief[-1] == "All images are of one group, so there are no intervals."

    def test_nothing_scored_is_a_dash_and_says_so(self):
        nothing = ScoredImages(np.zeros((IMAGES, 3, 3), int), IDS, np.arange(IMAGES))
        result = board([Candidate("empty", nothing)])
        assert "No pixel of validation can be scored" in format_ranking(result)
        assert not any("may be best" in line for line in brief_notes(result))
        assert format_ranking(result).splitlines()[2].split()[:2] == ["empty", "-"]
        assert result.to_dict()["candidates"][0]["examined"] is None

    def test_many_groups_need_no_word_on_coverage(self):
        assert coverage_with(12) is not None
        assert coverage_with(10_000) is None

    def test_document_and_frame_have_gap_p_cost_and_front(self):
        result = board([*FOUR[:3], replace(FOUR[3], milliseconds=2.0, members=("unet",))])
        first, second = result.to_dict()["candidates"][:2]
        assert (first["gap"], first["milliseconds"], first["front"]) == (None, 2.0, True)
        assert set(second["gap"]) == {"value", "interval", "p", "may_be_best"}
        assert second["milliseconds"] is None
        assert set(second["iou_intervals"]["rock"]) == {"low", "high", "level"}
        frame = result.to_frame()
        assert frame.loc["lucky", "gap"] == 0
        assert frame.loc["mean", "p"] == second["gap"]["p"]

    @pytest.mark.parametrize("name", ["sand", "rock"])
    def test_class_intervals_contain_the_iou_of_the_class(self, name):
        for row in board().rows:
            assert row.iou_intervals[name].low < row.iou[name] < row.iou_intervals[name].high
        assert all(row.iou_intervals["sky"] is None for row in board().rows)
