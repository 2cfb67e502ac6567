"""The `ens` commands that a page shows."""

import shlex
from pathlib import Path

ROOT = Path(__file__).parents[1]


def commands(text: str) -> list[list[str]]:
    """Return the words after `ens` of each command of a page's code, without comments."""
    lines = text.replace("\\\n", " ").splitlines()
    marked = [line.strip().removeprefix("$ ") for line in lines if line.startswith(("    ", "$ "))]
    code = [part.strip() for line in marked for part in line.split("&&")]
    return [shlex.split(line, comments=True)[1:] for line in code if line.startswith("ens ")]
