"""Copies of good folders in which something was changed."""

import json
import os
import shutil
from pathlib import Path


def changed(of: str, file: str, change):
    """Return what copies a good folder and changes a file's bytes in it."""

    def make(path: Path):
        shutil.copytree(path.parents[2] / "good" / of, path)
        target = path / file
        target.write_bytes(change(target.read_bytes()))

    return make


def document(of: str, file: str, **entries):
    """Return what copies a good folder and changes entries of a JSON document in it."""
    return changed(of, file, lambda old: json.dumps({**json.loads(old), **entries}).encode())


def linked(of: str, folder: str):
    """Return what copies a good folder and moves one in it away, behind a link."""

    def make(path: Path):
        shutil.copytree(path.parents[2] / "good" / of, path)
        (path / folder).rename(path.with_name("elsewhere"))
        (path / folder).symlink_to(path.with_name("elsewhere"))

    return make


def sparse(of: str, file: str):
    """Return what copies a good folder and makes a file eight gigabytes that take no disk space."""

    def make(path: Path):
        shutil.copytree(path.parents[2] / "good" / of, path)
        os.truncate(path / file, 1 << 33)

    return make


def recorded(folder: str, name: str, change, part: str = ""):
    """Return what copies the good run and changes a file in it and the digest in its record."""
    from evaluation.core.provenance import digest

    def make(path: Path):
        changed("run", f"{folder}/{name}", change)(path)
        record = path / folder / f"{part}provenance.json"
        known = json.loads(record.read_text())
        known["outputs"][name] = digest(path / folder / name)
        record.write_text(json.dumps(known))

    return make
