"""Exit codes and messages of the command."""

import click
import pytest

from ensemble.cli import COMMANDS, ens, run_command


@pytest.fixture
def ended_by(monkeypatch):
    """Let every command end with an error, and run one."""

    def ended(error):
        def main(**_):
            raise error

        monkeypatch.setattr(ens, "main", main)
        return run_command(["status"])

    return ended


def test_without_a_command_it_lists_them_and_exits_2(capsys):
    assert run_command([]) == 2
    text = capsys.readouterr().out
    assert all(command in text for command in COMMANDS)


def test_help_exits_0(capsys):
    assert run_command(["--help"]) == 0
    assert "Commands, in the order of work" in capsys.readouterr().out


def test_lack_of_memory_is_reported_in_one_line(ended_by, capsys):
    assert ended_by(MemoryError("Unable to allocate 9 EiB")) == 2
    line = "ens: out of memory (Unable to allocate 9 EiB); use smaller images, files or networks\n"
    assert capsys.readouterr().err == line


def test_refusal_of_click_takes_one_line(ended_by, capsys):
    assert ended_by(click.ClickException("first\nsecond")) == 2
    assert capsys.readouterr().err == "ens: first second\n"


def test_closed_output_is_no_failure(ended_by, capsys, monkeypatch):
    class Closed:
        closed = False

        def close(self):
            self.closed = True

    stream = Closed()
    monkeypatch.setattr("sys.stderr", stream)
    assert ended_by(BrokenPipeError()) == 0
    assert stream.closed


def test_unexpected_error_keeps_its_traceback(ended_by):
    with pytest.raises(OSError, match="strange"):
        ended_by(OSError("strange"))


def test_shell_completes_commands():
    context = click.Context(ens)
    assert [item.value for item in ens.shell_complete(context, "tune")] == ["tune-postproc"]
    assert ens.list_commands(context) == list(COMMANDS)
