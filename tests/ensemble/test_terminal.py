"""What a terminal shows: columns that fit, two lines of notes, completion, explanations."""

import io
import itertools
import re
import subprocess
import sys

import pytest
from click.shell_completion import BashComplete

from ensemble.cli import COMMANDS, ens, run_command
from evaluation.core.progress import progress
from evaluation.glossary import LINES, explain, terms
from evaluation.leaderboard_text import (
    EXPLAIN,
    GIVE_WAY,
    TableView,
    format_leaderboard,
    format_ranking,
)
from tests.evaluation.test_leaderboard import FOUR, board, candidate

BOARD = board()
WIDE = format_leaderboard(BOARD).splitlines()[0]


@pytest.mark.parametrize("form", [format_leaderboard, format_ranking])
@pytest.mark.parametrize("width", [30, 40, 60, 80, 100, 200])
def test_a_table_is_no_wider_than_the_terminal_and_says_what_is_left_out(form, width):
    lines = form(BOARD, TableView(width)).splitlines()
    assert all(len(line) <= width for line in lines[:6])
    whole = form(BOARD).splitlines()[0]
    left_out = [line for line in lines if line.startswith(f"Left out to fit {width} columns:")]
    assert len(left_out) == (lines[0] != whole)
    assert "candidate" in lines[0]
    assert "validation" in lines[0]


def test_columns_are_left_out_in_their_order():
    """A narrower table never shows a column that a wider one lacks."""
    headings = [
        set(format_leaderboard(BOARD, TableView(width)).splitlines()[0].split())
        for width in range(30, len(WIDE) + 2)
    ]
    for narrow, wide in itertools.pairwise(headings):
        assert narrow <= wide
    assert "keras" not in format_leaderboard(BOARD, TableView(len(WIDE) - 1)).splitlines()[0]


def test_every_column_has_its_turn_to_give_way():
    text = "\n".join(form(BOARD, TableView(1)) for form in (format_leaderboard, format_ranking))
    text = " ".join(text.split())  # notes are wrapped
    left_out = re.findall(r"Left out to fit 1 columns: ([^(]*) \(--wide", text)
    names = {name.strip() for line in left_out for name in line.split(",")}
    shown = {"protocol": "a second protocol", "class": "classes"}
    assert names == {shown.get(name, name) for name in GIVE_WAY}


def test_columns_can_be_chosen_and_unknown_ones_are_refused():
    head = format_ranking(BOARD, TableView(20, ("rock", "ms"))).splitlines()[0]
    assert head.split() == ["candidate", "ms", "rock"]
    head = format_ranking(BOARD, TableView(20, ("classes", "gap"))).splitlines()[0]
    assert head.split() == ["candidate", "gap", "sand", "rock"]
    with pytest.raises(Exception, match="unknown column 'sky'; known: classes, front, gap"):
        format_ranking(BOARD, TableView(columns=("sky",)))


def test_notes_are_two_lines_and_explained_on_demand():
    brief = format_leaderboard(BOARD, TableView(explain=False)).splitlines()[7:]
    assert [line.split()[0] for line in brief] == ["*", "1", EXPLAIN.split()[0]]
    assert "may be best (model confidence set at 95%)" in brief[1]
    assert len(format_leaderboard(BOARD).splitlines()[7:]) > 4
    alone = format_leaderboard(board([candidate("a", 0.5, 0.5, is_member=True)]))
    assert "chosen" in alone


def test_colours_mark_better_and_lower_rows_and_nothing_else():
    lines = format_leaderboard(BOARD, TableView(colour=True)).splitlines()[2:6]
    green = ["\x1b[32m" in line for line in lines]
    assert green == [row.better for row in board().rows]
    lines = format_ranking(BOARD, TableView(colour=True)).splitlines()[2:6]
    assert ["\x1b[31m" in line for line in lines] == [r.verdict == "lower" for r in board().rows]
    assert "\x1b" not in format_leaderboard(board(FOUR))


class TestGlossary:
    @pytest.mark.parametrize("term", terms(), ids=lambda term: term.name)
    def test_an_explanation_is_short_and_names_commands_that_exist(self, term):
        assert 0 < len(term.text.splitlines()) <= LINES
        for command in re.findall(r"`ens ([a-z-]+)", term.text):
            assert command in COMMANDS

    def test_no_name_stands_for_two_terms(self):
        names = [name.casefold() for term in terms() for name in (term.name, *term.aliases)]
        assert len(names) == len(set(names))
        assert explain("Model_Confidence-Set") is explain("may be best")

    def test_the_command_explains_lists_and_refuses(self, capsys):
        assert run_command(["docs", "model", "confidence", "set"]) == 0
        assert "Hansen" in capsys.readouterr().out
        assert run_command(["docs"]) == 0
        assert "out-of-fold" in capsys.readouterr().out
        assert run_command(["docs", "nothing"]) == 2
        assert "unknown term 'nothing'; known: " in capsys.readouterr().err


@pytest.fixture
def in_a_folder_of_runs(tmp_path, monkeypatch):
    run = tmp_path / "runs" / "mars"
    for path in ("labels/mean_argmax/candidate.json", "fused/mean/fusion.json", "data/x"):
        (run / path).parent.mkdir(parents=True)
        (run / path).write_text("{}", encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    ("words", "offered"),
    [
        ("ens fu", "fuse"),
        ("ens --ver", "--version"),
        ("ens fuse --strategy stacking_c", "stacking_conv"),
        ("ens postprocess --chain crf|remove_s", "crf|remove_small"),
        ("ens score --metric boundary", "boundary_iou"),
        ("ens score --run runs/m", "runs/mars"),
        ("ens score --run elsewhere/m", "elsewhere/m"),
        ("ens submit --run runs/mars --candidate mean_", "mean_argmax"),
        ("ens postprocess --fusion me", "mean"),
        ("ens score --run nowhere --candidate x", ""),
    ],
)
def test_the_shell_completes(words, offered, in_a_folder_of_runs):
    _, *given, incomplete = words.split()
    shell = BashComplete(ens, {}, "ens", "_ENS_COMPLETE")
    items = shell.get_completions(given, incomplete)
    assert [item.value for item in items] == ([offered] if offered else [])


def test_the_command_answers_the_shell_alone(in_a_folder_of_runs):
    script = "import ensemble.cli; ensemble.cli.main()"
    environment = {"_ENS_COMPLETE": "bash_complete", "COMP_WORDS": "ens fu", "COMP_CWORD": "1"}
    environment["PYTHONPATH"] = ":".join(path or "." for path in sys.path)
    result = subprocess.run(
        [sys.executable, "-c", script],
        env=environment,
        cwd=in_a_folder_of_runs,
        text=True,
        capture_output=True,
    )
    assert (result.stdout.split(), result.stderr) == (["plain,fuse"], "")


class Terminal(io.StringIO):
    """A stream that is one."""

    def isatty(self):
        return True


def test_long_work_shows_a_bar_on_a_terminal_and_leaves_nothing(monkeypatch):
    monkeypatch.setattr(sys, "stderr", Terminal())
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("TERM", "xterm")
    assert list(progress(iter("abc"), "chains", 3)) == list("abc")
    shown = sys.stderr.getvalue()
    assert "chains" in shown
    assert "3/3" in shown
    assert shown.rstrip().endswith("\x1b[2K")  # the line is erased


def test_long_work_writes_lines_elsewhere(monkeypatch):
    times = iter(range(0, 1000, 20))
    monkeypatch.setattr(sys, "stderr", io.StringIO())
    monkeypatch.setattr("time.monotonic", lambda: next(times))
    assert list(progress(iter("abcde"), "chains", 5)) == list("abcde")
    assert sys.stderr.getvalue() == "chains: 2 of 5, 60 s left\nchains: 4 of 5, 20 s left\n"
