"""What a folder holds, as far as two runs must agree on it."""

import csv
import io
import json
from pathlib import Path

UNLIKE = ("command", "made")
"""What a record says of the occasion, not of the result."""


def contents(folder: Path) -> dict[str, str | bytes]:
    """Return what lies at each path of a folder; hidden things too, so that leftovers show."""
    return {
        str(path.relative_to(folder)): _content(path) if path.is_file() else "folder"
        for path in sorted(folder.rglob("*"))
    }


def _content(path):
    if path.name.endswith("provenance.json"):
        document = json.loads(path.read_text())
        return json.dumps({key: value for key, value in document.items() if key not in UNLIKE})
    if path.name == "history.csv":
        rows = csv.DictReader(io.StringIO(path.read_text()))
        return str([{k: v for k, v in row.items() if k != "seconds"} for row in rows])
    return path.read_bytes()


def differing(one: dict[str, str | bytes], other: dict[str, str | bytes]) -> list[str]:
    """List the paths that are in one alone, or differ."""
    return sorted(path for path in {*one, *other} if one.get(path) != other.get(path))
