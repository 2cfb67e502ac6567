"""`ens bench score`: the sides count the same, and the document says what a pass is."""

import json

import pytest

from benchmarks.score import (
    OURS,
    PASS,
    as_text,
    bench_score,
)
from ensemble.cli import run

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def document():
    return bench_score(8, 1, lambda line: None)


def test_sides_are_compared_with_ours(document):
    assert {PASS, OURS, "torchmetrics"} < set(document["sides"])
    assert document["sides"][OURS]["ratio"] == 1
    assert document["passes"] == pytest.approx(1 / document["sides"][PASS]["ratio"])
    json.dumps(document, allow_nan=False)


def test_the_text_says_what_a_pass_is(document):
    assert "one pass: target.sum() and prediction.sum()" in as_text(document)
    assert "passes" in as_text(document).splitlines()[-1]


def test_the_verb_prints_what_was_measured(capsys):
    assert run(["bench", "score", "--images", "4", "--rounds", "1", "--json"]) == 0
    printed = json.loads(capsys.readouterr().out)
    assert printed["sides"][OURS]["ratio"] == 1
    assert printed["images"] == 4
