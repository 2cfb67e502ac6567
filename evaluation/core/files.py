"""Files written whole or not at all, and arrays read without trusting them.

What a killed process leaves behind, and who clears it away.

What is being written has a hidden name beside its own, `.NAME.HOST-PID-TOKEN.partial`; what is
being replaced waits as `.NAME.HOST-PID-TOKEN.old`. Both say whose they are, so that the next writer
can tell those of the dead, which it clears away, from those of the living.

Links that lead out of a folder: what came in it from a stranger must not reach elsewhere.
"""

import contextlib
import errno
import json
import os
import re
import secrets
import shutil
import socket
import tempfile
import zlib
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from evaluation.core.array_headers import (
    HEAD_BYTES,
    header_of,
    open_npz,
    read_header,
)
from evaluation.core.errors import BadData
from evaluation.core.types import Array

HOST = f"{zlib.crc32(socket.gethostname().encode()):08x}"
TOKEN_BYTES = 6
MARKED = re.compile(
    r"\.(?P<name>.+)\.(?P<host>[0-9a-f]{8})-(?P<pid>\d+)-[0-9a-f]{12}\.(?P<kind>partial|old)"
    r"(\.[^.]*)?"
)
ZARR = ".zarr"


def partial_name(path: Path) -> Path:
    """Return where to write what is to become `path`; its ending is kept."""
    return _marked(path, f"partial{path.suffix}")


def old_name(path: Path) -> Path:
    """Return where `path` waits until its successor is there; a crash gives it back."""
    return _marked(path, "old")


def is_temp(path: Path) -> bool:
    """Tell whether a name is one of those."""
    return MARKED.fullmatch(path.name) is not None


def remove_stale_temps(path: Path) -> None:
    """Clear away what dead processes of this machine left of `path`; others may be at work."""
    found = (left for left in _listed(path.parent) if _parts(left)["name"] == path.name)
    for left in [left for left in found if _parts(left)["host"] == HOST and not _alive(left)]:
        _clear(left)


def remove_stale_temps_within(run: Path) -> None:
    """Clear away what was left anywhere in a folder whose lock is held.

    The inside of Zarr arrays, with a file for each chunk, is not looked at: their store does so
    when it goes on.
    """
    for folder, inner, files in os.walk(run):
        found = [Path(folder, name) for name in (*inner, *files) if MARKED.fullmatch(name)]
        inner[:] = [n for n in inner if not n.endswith(ZARR) and not MARKED.fullmatch(n)]
        for left in found:
            if _parts(left)["host"] != HOST or not _alive(left):
                _clear(left)


def remove_folder(path: Path) -> None:
    """Remove a folder so that no crash leaves half of it under its name."""
    with contextlib.suppress(FileNotFoundError):
        shutil.rmtree(path.rename(_marked(path, "partial")))


def _marked(path: Path, kind: str) -> Path:
    return path.with_name(
        f".{path.name}.{HOST}-{os.getpid()}-{secrets.token_hex(TOKEN_BYTES)}.{kind}"
    )


def _listed(folder: Path) -> Iterable[Path]:
    with os.scandir(folder) as entries:
        return [Path(entry) for entry in entries if MARKED.fullmatch(entry.name)]


def _parts(left: Path) -> re.Match[str]:
    found = MARKED.fullmatch(left.name)
    assert found is not None
    return found


def _alive(left: Path) -> bool:
    try:
        os.kill(int(_parts(left)["pid"]), 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # there, and somebody else's
        return True
    return True


def _clear(left: Path) -> None:
    """Remove a leftover; what was to be replaced by something that never came goes back."""
    place = left.with_name(_parts(left)["name"])
    if _parts(left)["kind"] == "old" and not place.exists():
        left.rename(place)
    elif left.is_dir() and not left.is_symlink():
        shutil.rmtree(left, ignore_errors=True)
    else:
        left.unlink(missing_ok=True)


SYNCED_AT_ONCE = 8


@contextlib.contextmanager
def atomic_file(path: Path) -> Iterator[Path]:
    """Give a path to write to; it takes the name `path` once the block has ended well."""
    path.parent.mkdir(parents=True, exist_ok=True)
    remove_stale_temps(path)
    partial = partial_name(path)
    try:
        yield partial
        sync(partial)
        partial.replace(path)
        sync(path.parent)
    finally:
        partial.unlink(missing_ok=True)


@contextlib.contextmanager
def atomic_folder(path: Path) -> Iterator[Path]:
    """Give an empty folder; it takes the place of `path` once the block has ended well."""
    path.parent.mkdir(parents=True, exist_ok=True)
    remove_stale_temps(path)
    partial, old = partial_name(path), old_name(path)
    partial.mkdir()
    made = os.open(partial, os.O_RDONLY)
    try:
        yield partial
        _refuse_another(partial, made)
        sync_all(partial)
        if path.exists():
            path.rename(old)
        partial.rename(path)
        sync(path.parent)
    finally:
        os.close(made)
        if old.exists() and not path.exists():
            old.rename(path)
        for left in (old, partial):
            shutil.rmtree(left, ignore_errors=True)


def _refuse_another(partial: Path, made: int) -> None:
    """Refuse a folder that was removed meanwhile and made again by what was written next.

    Raises:
        FileNotFoundError: it was; what had been in it is lost.
    """
    if not os.path.samestat(partial.stat(), os.fstat(made)):
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(partial))


def sync(path: Path) -> None:
    """Wait until a file, or the names in a folder, would be there after a power cut.

    See docs/decisions/0015-durability.md.
    """
    opened = os.open(path, os.O_RDONLY)
    try:
        os.fsync(opened)
    finally:
        os.close(opened)


def sync_all(folder: Path) -> None:
    """Wait until all that lies in a folder would be there after a power cut.

    Side by side, so that one turn of the disk may do for many.
    """
    with ThreadPoolExecutor(SYNCED_AT_ONCE) as pool:
        for _ in pool.map(sync, [*folder.rglob("*"), folder]):
            pass


def create_npy(path: Path, *, dtype: Any, shape: tuple[int, ...]) -> Any:
    """Make a `.npy` to be written to through memory.

    Its room on the disk is taken at once: a disk that fills up later would end the process by a
    signal, without a word.

    Args:
        path: of the file.
        dtype: of the values.
        shape: of the array.

    Raises:
        OSError: no room.
    """
    array = np.lib.format.open_memmap(path, mode="w+", dtype=dtype, shape=shape)
    with path.open("rb+") as file:
        os.posix_fallocate(file.fileno(), 0, path.stat().st_size)
    return array


def write_json(path: Path, document: Any) -> None:
    """Write a JSON document whole or not at all; NaN, which JSON lacks, must be None by now."""
    with atomic_file(path) as partial:
        partial.write_text(json.dumps(document, indent=1, allow_nan=False) + "\n", encoding="utf-8")


def read_json(path: Path, most: int | None = None) -> Any:
    """Read a JSON document.

    Args:
        path: of the file.
        most: bytes that it may weigh, where it comes from strangers.

    Raises:
        BadData: missing, no JSON, or too much of it.
    """
    try:
        if most is not None and path.stat().st_size > most:
            raise ValueError(f"{path.stat().st_size} bytes, expected {most} at most")
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise BadData(f"{path} is missing") from None
    except (OSError, ValueError, RecursionError) as error:
        raise BadData(f"{path} cannot be read as JSON ({error}); restore it or remove it") from None


def open_array(path: Path, key: str | None = None) -> Array:
    """Open the array of a `.npy` file, or one array of a `.npz`, without loading it into memory.

    Args:
        path: the file.
        key: which array of a `.npz`; None where it holds one only.

    Returns:
        A read-only memory map. A `.npz` is unpacked into an unnamed temporary file first.

    Raises:
        BadData: missing, truncated, pickled, or not such a file.
    """
    if not path.is_file():
        raise BadData(f"{path} is missing; expected a .npy or .npz file")
    if path.suffix == ".npz":
        return _from_archive(path, key)
    return _mapped(path, str(path))


def array_names(path: Path) -> list[str]:
    """List the arrays of a `.npz`.

    Raises:
        BadData: missing, or no such file.
    """
    with open_npz(path) as (_, arrays):
        return list(arrays)


def _from_archive(path: Path, key: str | None) -> Array:
    names = array_names(path)
    if key is None and len(names) != 1:
        raise BadData(f"{path} holds {', '.join(names) or 'nothing'}; expected one array a file")
    key = names[0] if key is None else key
    header_of(path, key)  # what it claims, before room is taken for it
    with open_npz(path) as (archive, arrays), tempfile.TemporaryDirectory() as folder:
        unpacked = Path(folder) / "array.npy"
        with archive.open(arrays[key]) as source, unpacked.open("wb") as target:
            shutil.copyfileobj(source, target)
        # The map keeps the pages alive after the name is gone.
        return _mapped(unpacked, f"{path} ({key})")


def _mapped(path: Path, name: str) -> Array:
    try:
        with path.open("rb") as file:
            read_header(file.read(HEAD_BYTES), path.stat().st_size, name)
        mapped: Array = np.load(path, mmap_mode="r", allow_pickle=False)
    except (ValueError, OSError, EOFError) as error:
        raise BadData(
            f"{name} is no readable .npy array ({error}); write it again with np.save"
        ) from None
    return mapped


NOT_ENTERED = (".zarr", "done")
"""Folders with a file for each block of images; they are opened by names of our own."""


def check_no_external_links(folder: Path) -> None:
    """Refuse a folder with a symbolic link in it that leads out; nothing was read or written yet.

    The folder itself may be reached by a link: whoever called names it.

    Raises:
        BadData: names the first such link.
    """
    home = folder.resolve()
    for where, folders, files in os.walk(home):
        for name in (*folders, *files):
            path = Path(where, name)
            if path.is_symlink() and not Path(os.path.realpath(path)).is_relative_to(home):
                raise BadData(
                    f"{path} is a link that leads out of {folder}, to {path.readlink()};"
                    " put a copy in its place"
                )
        folders[:] = [name for name in folders if not name.endswith(NOT_ENTERED)]
