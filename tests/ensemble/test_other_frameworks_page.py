"""The ONNX export that the page on other frameworks shows, run on a network of plain torch."""

import re
import shutil
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch

from ensemble.cli import run_command
from evaluation.core.run_folder import Run
from members.data.dataset import DataSet
from members.store import ProbabilityStore

PAGE = Path(__file__).parents[2] / "docs" / "from-other-frameworks.md"
SECTION = re.compile(r"^## Plain torch\n(.*?)(?=^## |\Z)", re.MULTILINE | re.DOTALL)


def shown():
    """Return the export, and what `--network` says, of the section."""
    (section,) = SECTION.findall(PAGE.read_text(encoding="utf-8"))
    code, _, rest = section.partition("\n\n    ens predict --network 'plain=")
    lines = [line[4:] for line in code.splitlines() if line.startswith("    ")]
    return "\n".join(lines), rest.partition("'")[0]


@pytest.mark.slow
def test_it_is_registered_and_predicts_as_in_torch(trained_run, tmp_path, monkeypatch):
    torch.manual_seed(0)
    network = torch.nn.Sequential(
        torch.nn.Conv2d(3, 8, 3, padding=1), torch.nn.ReLU(), torch.nn.Conv2d(8, 5, 1)
    ).eval()
    monkeypatch.chdir(tmp_path)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        code, said = shown()
        exec(compile(code, str(PAGE), "exec"), {"torch": torch, "network": network})
    assert not (tmp_path / "network.onnx.data").exists()
    shutil.copytree(trained_run, tmp_path / "run")
    words = ["predict", "--network", f"plain={said}", "--run", str(tmp_path / "run")]
    assert run_command([*words, "--workers", "1"]) == 0
    run = Run(tmp_path / "run")
    images = torch.from_numpy(np.array(DataSet.load(run.data("validation")).images))
    with torch.inference_mode():
        expected = network(images.float().div(255).expand(-1, 3, -1, -1)).softmax(dim=1)
    found = ProbabilityStore(run.probabilities("plain", "validation")).read(slice(None))
    np.testing.assert_allclose(found, expected.numpy(), atol=1e-3)
