"""The files that a result consists of: noted by digest, and looked at before they are believed."""

from collections.abc import Iterable
from pathlib import Path

from evaluation.ground.errors import BadRun
from evaluation.ground.files import read_json
from evaluation.ground.provenance import RECORD, digest


def digests(folder: Path, names: Iterable[str]) -> dict[str, str]:
    """Return the digest of each of a folder's files, as a record's `outputs` take them."""
    return {name: digest(folder / name) for name in names}


def check_outputs(folder: Path, part: str = "") -> None:
    """Refuse files that are no longer what was written.

    Args:
        folder: of the result; where it has no record, or one that names no files, all is well.
        part: of the result, where the folder holds several.

    Raises:
        BadRun: a file is missing or has changed; names it.
    """
    found = damage(folder, part)
    if found is not None:
        file = record_file(folder, part)
        raise BadRun(f"{found}; remove {file} and run again to make it anew")


def damage(folder: Path, part: str = "") -> str | None:
    """Say which file of a result is no longer what was written; None where all are, or none is.

    Args:
        folder: of the result.
        part: of the result, where the folder holds several.
    """
    file = record_file(folder, part)
    outputs = read_json(file).get("outputs", {}) if file.is_file() else {}
    for name, written in outputs.items():
        path = folder / name
        if not path.is_file():
            return f"{path} is missing"
        if digest(path) != written:
            return f"{path} is not what was written (SHA-256)"
    return None


def forget(folder: Path, part: str = "") -> None:
    """Declare a result unfinished, before what it consists of is written again."""
    record_file(folder, part).unlink(missing_ok=True)


def record_file(folder: Path, part: str = "") -> Path:
    """Return where the record of a result lies."""
    return folder / (f"{part}.{RECORD}" if part else RECORD)
