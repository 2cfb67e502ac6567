"""The code that the documentation shows runs as it stands."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
BLOCK = re.compile(r"```python\n(.*?)```", re.DOTALL)


@pytest.mark.slow
def test_python_tutorial_runs_and_its_gain_is_significant(capsys):
    names: dict[str, object] = {}
    for block in BLOCK.findall((ROOT / "docs" / "python.md").read_text()):
        exec(compile(block, "docs/python.md", "exec"), names)
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines[:3]] == ["mIoU", "under", "stacked,"]
    gap = names["board"].rows[1].gap
    assert names["board"].names == ("stacked, filtered", "mean")
    assert gap.interval.high < 0
