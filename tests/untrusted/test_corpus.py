"""Bad files through every command that reads: refused in one line, with no trace left."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.untrusted.corpus.__main__ import CASES as BAD

ROOT = Path(__file__).parents[2]
CASES = {case.name: case.expected for case in BAD}
PEAK_MB = 1000

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    """Run all cases in one process, without the type checks of the tests."""
    folder = tmp_path_factory.mktemp("corpus")
    subprocess.run(
        [sys.executable, "-m", "tests.untrusted.corpus", str(folder)],
        check=True,
        capture_output=True,
        env=os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "HOME": str(folder)},
    )
    return json.loads((folder / "results.json").read_text())


def test_the_corpus_is_large_and_names_each_case_once(results):
    assert len(CASES) == len(results) > 700


@pytest.mark.parametrize("name", CASES)
def test_a_bad_file_is_refused_in_one_line_and_leaves_no_trace(results, name):
    result = results[name]
    assert result["code"] == 2, result["stderr"]
    assert len(result["stderr"].splitlines()) == 1
    assert result["stderr"].startswith("ens: ")
    assert result["expected"] in result["stderr"]
    assert result["written"] == []


def test_the_whole_corpus_takes_less_than_a_gigabyte(results):
    assert max(result["peak_mb"] for result in results.values()) < PEAK_MB


def test_no_case_of_the_corpus_runs_code(results, tmp_path_factory):
    assert not list(tmp_path_factory.getbasetemp().rglob("pwned"))
