"""The house: which room may import which, and what the README says of the verbs."""

import ast
from pathlib import Path

import pytest
from click.testing import CliRunner

from ensemble.cli import VERBS, ens

ROOT = Path(__file__).parents[1]
ROOMS = ("members", "ensemble", "postproc", "evaluation")

# The longest prefix that fits a module decides what it may import of ours.
LAW = {
    "evaluation.core": {"evaluation.core"},
    "evaluation": {"evaluation"},
    "members": {"members", "evaluation"},
    "postproc": {"postproc", "members", "evaluation"},
    "ensemble": {"ensemble", "members", "evaluation"},
    "ensemble.pipeline": {*ROOMS},
    "ensemble.cli": {*ROOMS},
}
TOP_FLOOR = ("ensemble.pipeline", "ensemble.cli")


def modules():
    for room in ROOMS:
        yield from sorted((ROOT / room).rglob("*.py"))


def name_of(path):
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imports_of(path):
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import; write the whole name"
            yield str(node.module)


def law_for(module):
    fitting = [prefix for prefix in LAW if within(module, prefix)]
    return LAW[max(fitting, key=len)]


def within(module, prefix):
    return module == prefix or module.startswith(prefix + ".")


@pytest.mark.parametrize("path", list(modules()), ids=name_of)
def test_every_import_goes_down_the_house(path):
    allowed = law_for(name_of(path))
    for imported in imports_of(path):
        if imported.split(".")[0] in ROOMS:
            assert any(within(imported, room) for room in allowed), f"imports {imported}"
            if not within(name_of(path), "ensemble.pipeline") and "ensemble.cli" not in name_of(
                path
            ):
                assert not any(within(imported, top) for top in TOP_FLOOR), f"imports {imported}"


def test_the_law_catches_an_arrow_that_goes_up():
    assert not any(within("postproc.chain", room) for room in law_for("members.train"))
    assert not any(
        within("evaluation.confusion", room) for room in law_for("evaluation.core.specs")
    )


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_answers_help_and_stands_in_the_readme(verb):
    answer = CliRunner().invoke(ens, [verb, "--help"])
    assert answer.exit_code == 0
    assert "--json" in answer.output or verb in ("bench", "data", "members")
    assert f"ens {verb}" in (ROOT / "README.md").read_text(encoding="utf-8")


def test_help_imports_no_torch():
    import subprocess
    import sys

    script = (
        "import sys; from ensemble.cli import run; run(['--help']); print('torch' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True, cwd=ROOT
    )
    assert done.stdout.splitlines()[-1] == "False"
