"""Provenance of results: what each was made from, and whether it is still current.

A result folder is complete once it has its `provenance.json`, which is written last. Its identity
is a hash of the config, the identities of its inputs, and the digests of its outputs; time and
machine are recorded but not part of it. A result is stale when today's config, or today's
identities of its inputs, differ from the record.
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

CONFIG = "asked"
"""Key of a record: what was configured."""

PACKAGES = ("ens", "numpy", "torch", "zarr")

PENDING_DIGEST = ("classes", "folds")
"""Inputs that early records lack; a record without them is compared by its other inputs."""

SETTLED_NS = 1_000_000_000
"""A file that changed more recently may change again without its times showing it."""


def digest(path: Path) -> str:
    """Return the SHA-256 of a file's bytes, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def digests(folder: Path, names: Iterable[str]) -> dict[str, str]:
    """Return the digest of each of these files of a folder, by name."""
    return {name: digest(folder / name) for name in names}


def cached_digest(path: Path) -> str:
    """Return `digest(path)`, computed again only if the file's size or times have changed."""
    stat = path.stat()
    changed = max(stat.st_mtime_ns, stat.st_ctime_ns)
    if time.time_ns() - changed < SETTLED_NS:
        return digest(path)
    return _digest_of_state(path.resolve(), stat.st_ino, stat.st_size, changed)


@functools.lru_cache(maxsize=1 << 14)
def _digest_of_state(path: Path, *_: int) -> str:
    return digest(path)


def digest_of(document: Any) -> str:
    """Return the SHA-256 of a JSON document, whatever the order of its keys.

    Examples:
        >>> digest_of({"a": 1, "b": 2}) == digest_of({"b": 2, "a": 1})
        True
    """
    text = json.dumps(document, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def record(
    folder: Path,
    *,
    config: Mapping[str, Any],
    inputs: Mapping[str, str],
    outputs: Mapping[str, str] | None = None,
    info: Mapping[str, Any] | None = None,
    part: str = "",
) -> None:
    """Write the folder's `provenance.json`, which declares it complete.

    The folder's files are synced to disk first; the files of a part, and of a folder that is yet
    to be renamed, are synced by whoever writes or renames them.

    Args:
        folder: the result.
        config: specs, seed and options; JSON values.
        inputs: identity or digest of each thing it was made from, by name.
        outputs: digests of files whose content does not follow from the two others (trained
            weights, say).
        info: further JSON values that are not part of the identity.
        part: name of one result, if the folder holds several: it has its own record.
    """
    document = {
        CONFIG: dict(config),
        "inputs": dict(inputs),
        "outputs": dict(outputs or {}),
        "noted": dict(info or {}),
        "command": " ".join(sys.argv),
        "versions": {"python": platform.python_version()} | _versions(),
        "made": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
    }
    if folder.is_dir() and not part and not is_temp(folder):
        sync_all(folder)
    write_json(record_file(folder, part), document)


def record_file(folder: Path, part: str = "") -> Path:
    """Return the path of a result's record."""
    return folder / (f"{part}.{RECORD}" if part else RECORD)


def identity(folder: Path, part: str = "") -> str | None:
    """Return the identity of a result folder, or of a part of it; None if it is not complete."""
    file = record_file(folder, part)
    if not file.is_file():
        return None
    document = read_json(file)
    return digest_of({key: document.get(key) for key in (CONFIG, "inputs", "outputs")})


def is_current(
    folder: Path, *, config: Mapping[str, Any], inputs: Mapping[str, str], part: str = ""
) -> bool:
    """Return whether a result is complete and was made with this config from these inputs."""
    if not record_file(folder, part).is_file():
        return False
    document = read_json(record_file(folder, part))
    recorded = document.get("inputs", {})
    today = {k: v for k, v in inputs.items() if k in recorded or k not in PENDING_DIGEST}
    # Through JSON, as the record went: tuples become lists, keys become strings.
    return bool(document.get(CONFIG) == json.loads(json.dumps(config)) and recorded == today)


def invalidate(folder: Path, part: str = "") -> None:
    """Declare a result incomplete, before its files are written again."""
    record_file(folder, part).unlink(missing_ok=True)


def is_intact(folder: Path) -> bool:
    """Return whether a result is complete and its recorded outputs are unchanged."""
    if not (folder / RECORD).is_file():
        return False
    return all(
        (folder / name).is_file() and cached_digest(folder / name) == written
        for name, written in _outputs(folder).items()
    )


def verify_outputs(folder: Path, part: str = "") -> None:
    """Refuse a result whose recorded outputs have changed; one without a record passes.

    Raises:
        BadRun: names a file that is missing or has changed.
    """
    problem = find_corruption(folder, part)
    if problem is not None:
        file = record_file(folder, part)
        raise BadRun(f"{problem}; remove {file} and run again to recreate it")


def find_corruption(folder: Path, part: str = "") -> str | None:
    """Describe the first recorded output that is missing or has changed; None if there is none."""
    for name, written in _outputs(folder, part).items():
        path = folder / name
        if not path.is_file():
            return f"{path} is missing"
        if digest(path) != written:
            return f"{path} is not what was written (SHA-256)"
    return None


def _outputs(folder: Path, part: str = "") -> dict[str, str]:
    file = record_file(folder, part)
    outputs: dict[str, str] = read_json(file).get("outputs", {}) if file.is_file() else {}
    return outputs


@functools.cache
def _versions() -> dict[str, str]:
    versions = {}
    for package in PACKAGES:
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            continue
    return versions
