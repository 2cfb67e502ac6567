"""`python -m benchmarks.score`: contenders count the same, and the document says what a pass is."""

import json

import pytest
from click.testing import CliRunner

from benchmarks.score import OURS, PASS, format_score, score

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def document():
    answer = CliRunner().invoke(score, ["--images", "8", "--rounds", "1", "--json"])
    return json.loads(answer.stdout)


def test_contenders_are_compared_with_ours(document):
    assert document["images"] == 8
    assert {PASS, OURS, "torchmetrics"} < set(document["sides"])
    assert document["sides"][OURS]["ratio"] == 1
    assert document["passes"] == pytest.approx(1 / document["sides"][PASS]["ratio"])


def test_the_text_says_what_a_pass_is(document):
    text = format_score(document)
    assert "one pass: target.sum() and pred.sum()" in text
    assert "passes" in text.splitlines()[-1]
