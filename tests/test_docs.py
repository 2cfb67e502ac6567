"""The code that the documentation shows runs as it stands."""

import ast
import re
from importlib import import_module
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = ("members", "ensemble", "postproc", "evaluation")
BLOCK = re.compile(r"```python\n(.*?)```", re.DOTALL)

SHOWN = [
    (page.relative_to(ROOT).as_posix(), block)
    for page in sorted([ROOT / "README.md", *(ROOT / "docs").rglob("*.md")])
    for block in BLOCK.findall(page.read_text(encoding="utf-8"))
]


@pytest.mark.parametrize(("page", "block"), SHOWN, ids=[page for page, _ in SHOWN])
def test_what_a_page_imports_exists(page, block):
    for node in ast.walk(ast.parse(block)):
        if isinstance(node, ast.ImportFrom) and str(node.module).split(".")[0] in PACKAGES:
            module = import_module(str(node.module))
            assert not [name.name for name in node.names if not hasattr(module, name.name)], page


@pytest.mark.parametrize("page", sorted({*(ROOT / "docs").rglob("*.md"), ROOT / "README.md"}))
def test_links_of_a_page_lead_to_files_and_headings(page):
    for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text(encoding="utf-8")):
        if "://" in target:
            continue
        name, _, anchor = target.partition("#")
        file = (page.parent / name).resolve() if name else page
        assert file.exists(), target
        if anchor:
            lines = re.findall(r"^#+ (.*)$", file.read_text(encoding="utf-8"), re.MULTILINE)
            assert anchor.removesuffix("-1") in {_anchor(line) for line in lines}, target


def _anchor(heading):
    """Return the anchor that GitHub makes of a heading."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


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
