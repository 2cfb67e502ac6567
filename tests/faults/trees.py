"""What a folder holds, as far as two runs must agree on it."""

import csv
import hashlib
import io
import json
from pathlib import Path

from evaluation.core.files import MARKED

UNLIKE = ("command", "made")
"""What a record says of the occasion, not of the result."""


def contents(folder: Path) -> dict[str, str | bytes]:
    """Return what lies at each path of a folder; hidden things too, so that leftovers show."""
    return {
        str(path.relative_to(folder)): _content(path) if path.is_file() else "folder"
        for path in sorted(folder.rglob("*"))
    }


def state(folder: Path) -> str:
    """Return a digest of a folder: the same for all that a new process cannot tell apart."""
    found = [(_nameless(path), content) for path, content in contents(folder).items()]
    return hashlib.sha256(repr(sorted(found, key=repr)).encode()).hexdigest()


def _nameless(path):
    """Leave out of leftovers' names which process left them: it is dead."""
    parts = [(part, MARKED.fullmatch(part)) for part in Path(path).parts]
    return "/".join(f"{left['kind']} {left['name']}" if left else part for part, left in parts)


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
