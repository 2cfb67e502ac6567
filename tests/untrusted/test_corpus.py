"""Bad files through every verb that reads: refused in one line, in little memory, with no trace."""

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
    """Run all cases in one process, where no type checks of the tests speak first."""
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
    found = results[name]
    assert found["code"] == 2, found["said"]
    assert len(found["said"].splitlines()) == 1
    assert found["said"].startswith("ens: ")
    assert found["expected"] in found["said"]
    assert found["written"] == []


def test_all_of_it_takes_less_than_a_gigabyte(results):
    assert max(found["peak_mb"] for found in results.values()) < PEAK_MB


def test_nothing_in_it_was_run(results, tmp_path_factory):
    assert not list(tmp_path_factory.getbasetemp().rglob("pwned"))
