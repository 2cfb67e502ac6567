"""What made a result, and whether it would come out the same today.

A result folder is whole once it has its `provenance.json`, which is written last. Its identity is
a hash over what was asked, the identities of what it was made from, and what it wrote; time and
machine are recorded but no part of it. A result is stale when today's identities of its inputs,
or what is asked today, differ from the record.

The files that a result consists of: noted by digest, and looked at before they are believed.
"""

import functools
import hashlib
import json
import platform
import sys
import time
from collections.abc import Iterable, Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from evaluation.core.errors import BadRun
from evaluation.core.files import is_temp, read_json, sync_all, write_json

RECORD = "provenance.json"
PACKAGES = ("ens", "numpy", "torch", "zarr")

PENDING_DIGEST = ("classes", "folds")
"""Inputs that records did not name at first; a record without one is taken at its word."""

SETTLED_NS = 1_000_000_000
"""A file changed more lately than this may change again without its times telling."""


def digest(path: Path) -> str:
    """Return the SHA-256 of a file's bytes, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def cached_digest(path: Path) -> str:
    """Return the same as `digest`, computed once for as long as the file's size and times stay."""
    stat = path.stat()
    changed = max(stat.st_mtime_ns, stat.st_ctime_ns)
    if time.time_ns() - changed < SETTLED_NS:
        return digest(path)
    return _digest_of_state(path.resolve(), stat.st_ino, stat.st_size, changed)


@functools.lru_cache(maxsize=1 << 14)
def _digest_of_state(path: Path, *_: int) -> str:
    return digest(path)


def digest_of(document: Any) -> str:
    """Return the SHA-256 of a JSON document, whatever the order of its keys."""
    text = json.dumps(document, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def record(
    folder: Path,
    *,
    asked: Mapping[str, Any],
    inputs: Mapping[str, str],
    outputs: Mapping[str, str] | None = None,
    noted: Mapping[str, Any] | None = None,
    part: str = "",
) -> None:
    """Write the folder's `provenance.json`, which declares it whole.

    What it declares is on the disk first. A part's files are there since they were written, and a
    folder that has yet to get its name is waited for then.

    Args:
        folder: the result.
        asked: what was asked: specs, seed, options; JSON values.
        inputs: identity or digest of each thing it was made from, by name.
        outputs: digests of files whose content does not follow from the two others (trained
            weights, say).
        noted: what helps to look again and is no part of the identity; JSON values.
        part: where a folder holds several results, the name of one: it has its own record.
    """
    document = {
        "asked": dict(asked),
        "inputs": dict(inputs),
        "outputs": dict(outputs or {}),
        "noted": dict(noted or {}),
        "command": " ".join(sys.argv),
        "versions": {"python": platform.python_version()} | _versions(),
        "made": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
    }
    if folder.is_dir() and not part and not is_temp(folder):
        sync_all(folder)
    write_json(_record_file(folder, part), document)


def identity(folder: Path, part: str = "") -> str | None:
    """Return the identity of a result folder, or a part of it; None where it is not whole."""
    file = _record_file(folder, part)
    if not file.is_file():
        return None
    document = read_json(file)
    return digest_of({key: document.get(key) for key in ("asked", "inputs", "outputs")})


def is_current(
    folder: Path, *, asked: Mapping[str, Any], inputs: Mapping[str, str], part: str = ""
) -> bool:
    """Tell whether the folder, or a part of it, is whole and was made of just this."""
    if not _record_file(folder, part).is_file():
        return False
    document = read_json(_record_file(folder, part))
    recorded = document.get("inputs", {})
    today = {k: v for k, v in inputs.items() if k in recorded or k not in PENDING_DIGEST}
    # Through JSON, as the record went: tuples become lists, keys become strings.
    return bool(document.get("asked") == json.loads(json.dumps(asked)) and recorded == today)


def is_intact(folder: Path) -> bool:
    """Tell whether the files whose digests the record holds are still what was written."""
    if not (folder / RECORD).is_file():
        return False
    outputs = read_json(folder / RECORD).get("outputs", {})
    return all(
        (folder / name).is_file() and cached_digest(folder / name) == written
        for name, written in outputs.items()
    )


def _record_file(folder: Path, part: str) -> Path:
    return folder / (f"{part}.{RECORD}" if part else RECORD)


@functools.cache
def _versions() -> dict[str, str]:
    found = {}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def digests(folder: Path, names: Iterable[str]) -> dict[str, str]:
    """Return the digest of each of a folder's files, as a record's `outputs` take them."""
    return {name: digest(folder / name) for name in names}


def verify_outputs(folder: Path, part: str = "") -> None:
    """Refuse files that are no longer what was written.

    Args:
        folder: of the result; where it has no record, or one that names no files, all is well.
        part: of the result, where the folder holds several.

    Raises:
        BadRun: a file is missing or has changed; names it.
    """
    found = find_corruption(folder, part)
    if found is not None:
        file = record_file(folder, part)
        raise BadRun(f"{found}; remove {file} and run again to make it anew")


def find_corruption(folder: Path, part: str = "") -> str | None:
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


def invalidate(folder: Path, part: str = "") -> None:
    """Declare a result unfinished, before what it consists of is written again."""
    record_file(folder, part).unlink(missing_ok=True)


def record_file(folder: Path, part: str = "") -> Path:
    """Return where the record of a result lies."""
    return folder / (f"{part}.{RECORD}" if part else RECORD)
