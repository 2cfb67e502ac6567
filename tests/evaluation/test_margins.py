"""Which candidates are not worse than one by more than a margin, and which are equivalent."""

import numpy as np
import pytest

from evaluation.core.classes import Classes
from evaluation.core.errors import BadData
from evaluation.joint_tests import JointTests
from evaluation.leaderboard import Candidate, compare
from evaluation.leaderboard_text import format_ranking
from evaluation.margins import check_margin, compare_with_margin
from evaluation.scores import ScoredImages

NAMES = ("given", "same", "better", "worse", "unclear")
CLASSES = Classes(("sand", "rock"))


def joint(scores, errors):
    spread = np.random.default_rng(0).normal(0, 1 / np.sqrt(30), (len(scores), 30))
    return JointTests.from_influences(
        np.array(scores),
        spread * np.array(errors)[:, None],
        rng=np.random.default_rng(0),
        resamples=1_000,
    )


@pytest.mark.parametrize("predeclared", [True, False])
def test_every_statement_is_made_where_its_bounds_say_so(predeclared):
    result = compare_with_margin(
        joint([0.5, 0.501, 0.55, 0.45, 0.5], [0.0, 0.001, 0.001, 0.001, 0.05]),
        NAMES,
        0,
        0.01,
        predeclared=predeclared,
        level=0.95,
    )
    assert {row.name: row.statement for row in result.rows} == {
        "same": "equivalent",
        "better": "not worse",
        "worse": "worse",
        "unclear": "not shown",
    }
    assert result.rows[0].name == "better"


def test_a_candidate_that_was_picked_by_the_scores_has_wider_bounds():
    tests = joint([0.5] * 5, [0.01] * 5)
    fixed, picked = (
        compare_with_margin(tests, NAMES, 0, 0.01, predeclared=predeclared, level=0.95)
        for predeclared in (True, False)
    )
    assert 0.95 < fixed.bound_level < picked.bound_level
    assert all(b.low < a.low for a, b in zip(fixed.rows, picked.rows, strict=True))


def test_alone_a_bound_is_students_at_one_side():
    tests = joint([0.5, 0.501], [0.0, 0.01])
    result = compare_with_margin(tests, NAMES[:2], 0, 0.01, predeclared=True, level=0.95)
    assert result.bound_level == pytest.approx(0.95, abs=0.015)


def scored(share, groups, seed=0):
    hits = np.clip(100 * share + np.random.default_rng(seed).integers(-9, 10, 24), 0, 100)
    counts = np.stack([np.stack([hits, 100 - hits], -1), np.stack([100 - hits, hits], -1)], -2)
    return ScoredImages(counts.astype(int), tuple(map(str, range(24))), np.arange(24) % groups)


def board(groups=12, **options):
    candidates = [
        Candidate(name, scored(share, groups), scored(oof, groups, seed=1))
        for name, share, oof in (("a", 0.6, 0.7), ("b", 0.62, 0.6), ("c", 0.3, 0.3))
    ]
    split = options.pop("split", "validation")
    return compare(candidates, CLASSES, rng=np.random.default_rng(0), split=split, **options)


def test_by_default_candidates_are_compared_with_the_chosen_one_and_else_with_the_first():
    assert board().margin is None
    chosen = board(margin=0.05).margin
    assert (chosen.to, chosen.predeclared) == ("a", True)
    assert {row.name: row.statement for row in chosen.rows} == {"b": "equivalent", "c": "worse"}
    first, named = board(margin=0.05, split="oof").margin, board(margin=0.05, to="b").margin
    assert (first.to, first.predeclared) == ("b", False)
    assert (named.to, named.predeclared) == ("b", False)


def test_the_text_and_the_document_have_the_statements():
    result = board(margin=0.05)
    assert '"not worse" than a by more than .050' in format_ranking(result)
    assert result.to_dict()["margin"]["candidates"][0]["statement"] == "equivalent"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"margin": -0.1}, "the margin is -0.1; expected"),
        ({"margin": float("nan")}, "the margin is nan"),
        ({"margin": 0.1, "to": "d"}, "unknown candidate 'd'; known: a, b, c"),
        ({"margin": 0.1, "groups": 1}, "all images are of one group"),
    ],
)
def test_what_cannot_be_compared_is_refused(options, message):
    with pytest.raises(BadData, match=message):
        board(**options)


def test_a_margin_needs_two_candidates():
    with pytest.raises(
        BadData, match="'a' is the only candidate; a margin needs two, score another"
    ):
        check_margin(0.1, None, ["a"], 12)
