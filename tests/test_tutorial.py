"""Every command and block of the tutorial runs, in its order, with small networks."""

import re
import shlex
from pathlib import Path

import pytest

from ensemble.cli import run_command

PAGE = Path(__file__).parents[1] / "docs" / "tutorial.md"
STEP = re.compile(r"^    ens ([^\n]*)$|```python\n(.*?)```", re.MULTILINE | re.DOTALL)
SMALLER = {
    "--epochs 8": "--epochs 1",
    "--folds 3": "--folds 2",
    "--member 'unet(width=8, depth=3)'": "--member 'unet(width=2, depth=1)'",
    "--member 'deeplab_v3_plus(width=4)' ": "",
    "--member 'pan'": "--member 'pan=unet(width=3, depth=1)'",
    "--trials 10": "--trials 2",
}
MADE = ("worst.png", "growth.svg", "unsure", "winner", "winner.onnx", "stacked.npy", "labels.npy")


def test_the_tutorial_runs(tmp_path, monkeypatch, capsys):
    pytest.importorskip("onnxruntime", reason="no onnxruntime here: pip install 'ens[onnx]'")
    monkeypatch.chdir(tmp_path)
    text = PAGE.read_text(encoding="utf-8")
    for large, small in SMALLER.items():
        assert large in text
        text = text.replace(large, small)
    for command, block in STEP.findall(text):
        if block:
            exec(compile(block, str(PAGE), "exec"), {})
        else:
            assert run_command(shlex.split(command)) == 0, (command, capsys.readouterr().err)
    for name in MADE:
        assert (tmp_path / name).exists()
