"""The site of the documentation builds without a warning: links, references, docstrings."""

import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("sphinx", reason="no Sphinx here: pip install 'ens[docs]'")
ROOT = Path(__file__).parents[1]


def test_the_site_builds_and_holds_commands_terms_and_the_python_api(tmp_path):
    command = [
        sys.executable,
        "-m",
        "sphinx",
        "-W",
        "--keep-going",
        "-q",
        "-d",
        str(tmp_path / "t"),
    ]
    built = subprocess.run(
        [*command, str(ROOT / "docs"), str(tmp_path / "site")], text=True, capture_output=True
    )
    assert built.returncode == 0, built.stderr
    for page, text in {
        "made/commands": "ens tune-postproc",
        "made/terms": "model confidence set",
        "reference": "fit_target",
        "made/start": "I have probability maps",
        "index": "recipe-search.html",
    }.items():
        assert text in (tmp_path / "site" / f"{page}.html").read_text(encoding="utf-8")
    assert not (ROOT / "docs" / "made").exists()
