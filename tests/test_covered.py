import json
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).with_name("covered.py")


def asked(*, lines, branches):
    """Ask about a report of 200 lines and 200 branches, as coverage words it."""
    totals = {
        "covered_lines": lines,
        "num_statements": 200,
        "covered_branches": branches,
        "num_branches": 200,
        "percent_covered": 99.0,
    }
    return subprocess.run(
        [sys.executable, SCRIPT],
        input=json.dumps({"totals": totals}),
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize(
    ("lines", "branches", "code"),
    [(198, 194, 0), (197, 200, 1), (200, 193, 1)],
    ids=["just enough", "a line too few", "a branch too few"],
)
def test_too_few_lines_or_branches_fail_the_measurement(lines, branches, code):
    assert asked(lines=lines, branches=branches).returncode == code


def test_lines_and_branches_are_told_apart():
    said = asked(lines=199, branches=150).stdout.splitlines()
    assert said[0].startswith("lines 99.50 %")
    assert said[1].startswith("branches 75.00 %")
