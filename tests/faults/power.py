"""What a power cut would take: files whose content is in memory alone when their name is taken."""

import json
import os
import sys
from pathlib import Path

from evaluation.core.files import is_temp
from evaluation.core.provenance import RECORD


def watch(root: str) -> None:
    """Say on stderr whatever gets its name, or a record, before it is on the disk.

    Args:
        root: the folder that is looked at; it ends with a slash.
    """
    on_disk: dict[int, int] = {}
    real = os.fsync

    def noted(descriptor):
        real(descriptor)
        found = os.fstat(descriptor)
        on_disk[found.st_ino] = found.st_mtime_ns

    def look(event, arguments):
        if event != "os.rename" or not os.fspath(arguments[0]).startswith(root):
            return
        for path in relied_on(Path(arguments[0]), Path(arguments[1])):
            found = path.stat()
            if on_disk.get(found.st_ino) != found.st_mtime_ns:
                sys.stderr.write(f"in memory alone: {path}\n")

    os.fsync = noted
    sys.addaudithook(look)


def relied_on(source: Path, target: Path) -> list[Path]:
    """List the files that whoever finds `target` takes for whole."""
    if not is_temp(source):
        return []  # a chunk, say: it counts once a record names its folder
    if source.is_dir():
        return files(source)
    if not target.name.endswith(RECORD):
        return [source]
    folder = target.parent
    if target.name == RECORD:
        # A folder that has yet to get its name is looked at when it does.
        return [source] if any(map(is_temp, target.parents)) else [source, *files(folder)]
    return [source, *(folder / name for name in json.loads(source.read_text())["outputs"])]


def files(folder: Path) -> list[Path]:
    """List the files in a folder."""
    return [path for path in folder.rglob("*") if path.is_file() and not is_temp(path)]
