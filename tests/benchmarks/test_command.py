"""The comparisons as commands: help, and errors as in `ens`."""

from importlib import import_module

import pytest
from click.testing import CliRunner

from benchmarks.command import run_command

COMMANDS = {
    "against_tree": "benchmarks.against_tree",
    "crf": "benchmarks.crf",
    "fuse": "benchmarks.fuse.__main__",
    "morphology": "benchmarks.morphology.__main__",
    "scale": "benchmarks.scale.__main__",
    "score": "benchmarks.score",
}


@pytest.mark.parametrize("name", COMMANDS)
def test_every_comparison_answers_help_and_prints_json(name):
    answer = CliRunner().invoke(getattr(import_module(COMMANDS[name]), name), ["--help"])
    assert answer.exit_code == 0
    assert "--json" in answer.output


@pytest.mark.parametrize("name", ["crf", "morphology"])
@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["--run", "none"], "none"),
        (["--fusion", "mean"], "--fusion needs a run; give --run too; see `python -m benchmarks."),
        (["--images", "0"], "see `python -m benchmarks."),
    ],
)
def test_an_error_is_one_line_and_exit_code_2(
    name, arguments, reason, monkeypatch, capsys, tmp_path
):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.argv", [name, *arguments])
    with pytest.raises(SystemExit) as stopped:
        run_command(getattr(import_module(COMMANDS[name]), name), f"benchmarks.{name}")
    out, err = capsys.readouterr()
    assert stopped.value.code == 2
    assert out == ""
    assert len(err.splitlines()) == 1
    assert err.startswith("ens: ")
    assert reason in err
