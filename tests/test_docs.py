"""The code that the documentation shows runs as it stands."""

import ast
import re
from importlib import import_module
from typing import Any

import click
import pytest

from ensemble.cli import ens
from ensemble.cli.members import DEFAULT, MembersGroup
from tests.page_commands import ROOT, commands

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


PAGES = sorted({*(ROOT / "docs").rglob("*.md"), ROOT / "README.md"})


@pytest.mark.parametrize("page", PAGES)
def test_links_of_a_page_lead_to_files_and_headings(page):
    for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text(encoding="utf-8")):
        if "://" in target or target.startswith("made/"):  # the site's test checks the latter
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


@pytest.mark.parametrize(
    ("page", "words"),
    [(page, words) for page in PAGES for words in commands(page.read_text(encoding="utf-8"))],
    ids=lambda value: " ".join(value) if isinstance(value, list) else value.stem,
)
def test_commands_of_a_page_have_options_that_exist(page, words):
    command: Any = ens
    context, rest = click.Context(ens, info_name="ens"), list(words)
    while isinstance(command, click.Group) and rest != ["..."]:
        if isinstance(command, MembersGroup) and rest[0].startswith("--"):
            rest.insert(0, DEFAULT)
        inside = command.get_command(context, rest[0])
        assert inside is not None, rest[0]
        command, rest = inside, rest[1:]
        context = click.Context(command, info_name=words[0], parent=context)
    if rest != ["..."]:
        command.parse_args(context, rest)
        given = {word.partition("=")[0] for word in rest if word.startswith("--")}
        assert given <= {option for one in command.params for option in one.opts} | {"--help"}
