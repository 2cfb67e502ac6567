"""What the documentation shows runs as it stands."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
BLOCK = re.compile(r"```python\n(.*?)```", re.DOTALL)


@pytest.mark.slow
def test_the_python_example_runs_and_the_gain_is_real(capsys):
    namespace: dict[str, object] = {}
    for block in BLOCK.findall((ROOT / "docs" / "python.md").read_text()):
        exec(compile(block, "docs/python.md", "exec"), namespace)
    said = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in said] == ["masked", "keras", "stacked,"]
    assert namespace["gain"].low > 0
