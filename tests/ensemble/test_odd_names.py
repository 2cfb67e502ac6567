"""Names with `$`, and names that the terminal's encoding lacks."""

import ast
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import optuna
import pytest
from optuna.distributions import FloatDistribution

from ensemble.pipeline.analysis.uncertainty import SheetRow, draw_sheet
from ensemble.pipeline.search.plots import draw_importance
from evaluation.core.classes import Classes
from evaluation.report.svg import figure, label
from members.data.contact_sheet import write_sheet

ODD = ["$x^$", "a$b", "$$", r"\$\frac{$", "$\\badcommand$", "日本語", "{}%_&"]
ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("name", ODD)
class TestFigures:
    def test_of_the_page_show_a_name_as_it_is(self, name):
        shown = figure("figure", 20, label(0, 10, name))
        assert name.replace("&", "&amp;") in shown

    def test_of_uncertain_images_are_drawn(self, name, tmp_path):
        plane = np.zeros((8, 8))
        image, labels = np.zeros((1, 8, 8), np.uint8), np.zeros((8, 8), np.uint8)
        row = SheetRow(f"1. {name}: 0.5 nats", image, labels, labels, plane, plane)
        draw_sheet(tmp_path / "sheet.png", [row], Classes((name, "other $")))
        assert (tmp_path / "sheet.png").stat().st_size

    def test_of_a_search_are_drawn(self, name, tmp_path):
        study = optuna.create_study(direction="maximize")
        among = {name: FloatDistribution(0, 1), "b": FloatDistribution(0, 1)}
        for a, b in ((0.1, 0.2), (0.4, 0.3), (0.6, 0.9), (0.8, 0.1)):
            values = {name: a, "b": b}
            trial = optuna.create_trial(value=a * b, params=values, distributions=among)
            study.add_trial(trial)
        assert draw_importance(tmp_path / "importance.png", study)[0]

    def test_of_overlays_are_drawn(self, name, tmp_path):
        image, labels = np.zeros((1, 1, 8, 8), np.uint8), np.zeros((1, 8, 8), np.uint8)
        classes = Classes((name, "other"))
        path = tmp_path / "sheet.png"
        write_sheet(path, image, {name: labels}, classes=classes, captions=[name])
        assert path.stat().st_size


def test_every_figure_of_the_project_is_drawn_with_literal_text():
    packages = ("evaluation", "members", "postproc", "ensemble")
    for path in (file for package in packages for file in (ROOT / package).rglob("*.py")):
        text = path.read_text(encoding="utf-8")
        imported = {
            alias.name
            for node in ast.walk(ast.parse(text))
            if isinstance(node, ast.ImportFrom) and node.module == "matplotlib.figure"
            for alias in node.names
        }
        assert "Figure" not in imported or "literal_text()" in text, path


def in_latin_1(script, *words):
    """Run a script in a process whose streams have an encoding that has few names."""
    environment = {**os.environ, "PYTHONIOENCODING": "latin-1", "PYTHONUTF8": "0"}
    command = [sys.executable, "-c", script, *words]
    done = subprocess.run(command, capture_output=True, env=environment, check=False, cwd=ROOT)
    return done.returncode, done.stdout.decode("latin-1"), done.stderr.decode("latin-1")


class TestTerminal:
    ENS = "from ensemble.cli import main; main()"

    def test_a_result_with_a_name_that_it_lacks_is_printed(self, tmp_path):
        words = ["fuse", "--strategy", "mean"]
        for name in "ab":
            np.save(tmp_path / f"{name}.npy", np.full((2, 2, 4, 4), 0.5, np.float32))
            words += ["--maps", str(tmp_path / f"{name}.npy")]
        code, out, said = in_latin_1(self.ENS, *words, "--out", str(tmp_path / "日本 é.npy"))
        assert (code, said) == (0, "")
        assert "?? é.npy: 2 images" in out

    def test_an_error_with_a_name_that_it_lacks_is_printed(self):
        words = ["fuse", "--strategy", "日本 é", "--maps", "a.npy", "--out", "o.npy"]
        code, out, said = in_latin_1(self.ENS, *words)
        assert (code, out) == (2, "")
        assert "'?? é'" in said

    def test_a_table_with_a_name_that_it_lacks_is_printed(self):
        table = "format_columns([['name', 'x'], ['日本', '1']], left=1)"
        script = f"""
import click
from ensemble import cli
from evaluation.formatting import format_columns
cli.ens.add_command(click.Command("t", callback=lambda: click.echo("\\n".join({table}))))
cli.LazyGroup.get_command = click.Group.get_command
cli.main()
"""
        assert in_latin_1(script, "t") == (0, "name  x\n??  1\n", "")
