"""How the command ends, whatever ends it."""

import click
import pytest

from ensemble.cli import VERBS, ens, run


@pytest.fixture
def ended_by(monkeypatch):
    """Let every verb end by an error, and run one."""

    def ended(error):
        def main(**_):
            raise error

        monkeypatch.setattr(ens, "main", main)
        return run(["status"])

    return ended


def test_without_a_verb_it_lists_them_and_exits_2(capsys):
    assert run([]) == 2
    said = capsys.readouterr().out
    assert all(verb in said for verb in VERBS)


def test_help_is_no_mistake(capsys):
    assert run(["--help"]) == 0
    assert "Verbs, in the order of work" in capsys.readouterr().out


def test_want_of_memory_is_told_in_a_line_with_what_to_do(ended_by, capsys):
    assert ended_by(MemoryError("Unable to allocate 9 EiB")) == 2
    told = (
        "ens: memory ran out (Unable to allocate 9 EiB); take smaller images, files or networks\n"
    )
    assert capsys.readouterr().err == told


def test_what_click_refuses_stands_on_one_line(ended_by, capsys):
    assert ended_by(click.ClickException("first\nsecond")) == 2
    assert capsys.readouterr().err == "ens: first second\n"


def test_a_reader_that_has_gone_is_no_failure(ended_by, capsys, monkeypatch):
    class Closed:
        closed = False

        def close(self):
            self.closed = True

    stream = Closed()
    monkeypatch.setattr("sys.stderr", stream)
    assert ended_by(BrokenPipeError()) == 0
    assert stream.closed


def test_a_fault_of_ours_keeps_its_traceback(ended_by):
    with pytest.raises(OSError, match="strange"):
        ended_by(OSError("strange"))


def test_the_shell_completes_verbs():
    context = click.Context(ens)
    assert [found.value for found in ens.shell_complete(context, "tune")] == ["tune-postproc"]
    assert ens.list_commands(context) == list(VERBS)
