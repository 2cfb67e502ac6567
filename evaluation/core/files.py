"""Files that are written whole or not at all, and arrays that are read without trusting them.

A file is written under a hidden name next to its own, `.NAME.HOST-PID-TOKEN.partial`; the file that
it replaces waits as `.NAME.HOST-PID-TOKEN.old`. Both names tell whose they are, so the next writer
removes those of dead processes and leaves those of living ones alone.
"""

import contextlib
import errno
import json
import math
import os
import re
import secrets
import shutil
import socket
import sys
import tempfile
import zlib
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from evaluation.core.array_headers import HEAD_BYTES, PARSING, header_of, open_npz, read_header
from evaluation.core.errors import BadData, shorten
from evaluation.core.ragged import Extent, Ragged, Stack
from evaluation.core.types import Array

HOST = f"{zlib.crc32(socket.gethostname().encode()):08x}"
TOKEN_BYTES = 6
MARKED = re.compile(
    r"\.(?P<name>.+)\.(?P<host>[0-9a-f]{8})-(?P<pid>\d+)-[0-9a-f]{12}\.(?P<kind>partial|old)"
    r"(\.[^.]*)?"
)
SYNC_THREADS = 8
ZARR = ".zarr"
NOT_ENTERED = (ZARR, "done")
"""Folders with a file for each block of images; their files are opened by names of our own."""

MAX_NAME_BYTES = 200
"""File systems take 255; the suffix and temporary names need some."""


@contextlib.contextmanager
def atomic_file(path: Path) -> Iterator[Path]:
    """Give a path to write to; it is renamed to `path` once the block has ended without error.

    A symbolic link stays, and what it leads to is replaced.

    Raises:
        BadData: the path is a device, a pipe, or a link that leads to itself.
    """
    path = _target(path)
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
    """Give an empty folder; it replaces `path` once the block has ended without error.

    A symbolic link stays, and the folder that it leads to is replaced.

    Raises:
        BadData: as `atomic_file`.
    """
    path = _target(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    remove_stale_temps(path)
    partial, old = partial_name(path), old_name(path)
    partial.mkdir()
    opened = os.open(partial, os.O_RDONLY)
    try:
        yield partial
        if not os.path.samestat(partial.stat(), os.fstat(opened)):
            # Removed meanwhile, with all that was in it, and made again by the next write.
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(partial))
        sync_all(partial)
        if path.exists():
            path.rename(old)
        partial.rename(path)
        sync(path.parent)
    finally:
        os.close(opened)
        if old.exists() and not path.exists():
            old.rename(path)
        for left in (old, partial):
            shutil.rmtree(left, ignore_errors=True)


def _target(path: Path) -> Path:
    """Return the path behind links: a rename onto a link would put the file in the link's place."""
    target = Path(os.path.realpath(path))
    if target.is_symlink():
        raise BadData(f"{path} is a link that leads to itself; remove it")
    if target.exists() and not (target.is_file() or target.is_dir()):
        raise BadData(f"{path} is a device or a pipe; expected the name of a file or folder")
    return target


def remove_folder(path: Path) -> None:
    """Remove a folder so that no crash leaves half of it under its name; a link to it stays."""
    path = _target(path)
    with contextlib.suppress(FileNotFoundError):
        shutil.rmtree(path.rename(_marked(path, "partial")))


def partial_name(path: Path) -> Path:
    """Return a name to write to before renaming to `path`; the suffix stays."""
    return _marked(path, f"partial{path.suffix}")


def old_name(path: Path) -> Path:
    """Return a name under which `path` waits for its successor; a crash restores it."""
    return _marked(path, "old")


def is_temp(path: Path) -> bool:
    """Return whether a name is one of those two."""
    return MARKED.fullmatch(path.name) is not None


def remove_stale_temps(path: Path) -> None:
    """Remove what dead processes of this machine left of `path`; others may still be writing."""
    with os.scandir(path.parent) as entries:
        left = [Path(entry) for entry in entries if MARKED.fullmatch(entry.name)]
    for temp in left:
        parts = _parts(temp)
        if parts["name"] == path.name and parts["host"] == HOST and not _alive(temp):
            _remove_temp(temp)


def remove_stale_temps_within(run: Path) -> None:
    """Remove what was left anywhere in a folder whose lock is held.

    Zarr arrays, with a file per chunk, are not entered: their store cleans up when it resumes.
    """
    for folder, inner, files in os.walk(run):
        left = [Path(folder, name) for name in (*inner, *files) if MARKED.fullmatch(name)]
        inner[:] = [n for n in inner if not n.endswith(ZARR) and not MARKED.fullmatch(n)]
        for temp in left:
            if _parts(temp)["host"] != HOST or not _alive(temp):
                _remove_temp(temp)


def _marked(path: Path, kind: str) -> Path:
    return path.with_name(
        f".{path.name}.{HOST}-{os.getpid()}-{secrets.token_hex(TOKEN_BYTES)}.{kind}"
    )


def _parts(temp: Path) -> re.Match[str]:
    match = MARKED.fullmatch(temp.name)
    assert match is not None
    return match


def _alive(temp: Path) -> bool:
    try:
        os.kill(int(_parts(temp)["pid"]), 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # the process is another user's
        return True
    return True


def _remove_temp(temp: Path) -> None:
    """Remove a leftover; a file whose successor never came gets its name back."""
    original = temp.with_name(_parts(temp)["name"])
    if _parts(temp)["kind"] == "old" and not original.exists():
        temp.rename(original)
    elif temp.is_dir() and not temp.is_symlink():
        shutil.rmtree(temp, ignore_errors=True)
    else:
        temp.unlink(missing_ok=True)


def sync(path: Path | str) -> None:
    """Wait until a file, or the names in a folder, would survive a power cut.

    See docs/decisions/0015-durability.md.
    """
    opened = os.open(path, os.O_RDONLY)
    try:
        os.fsync(opened)
    finally:
        os.close(opened)


def sync_all(folder: Path) -> None:
    """Wait until everything in a folder would survive a power cut.

    In parallel, so that one flush of the disk may serve many files.
    """
    walked = [(where, names) for where, _, names in os.walk(folder)]
    paths = [where for where, _ in walked]
    paths += [f"{where}/{name}" for where, names in walked for name in names]

    def sync_some(start: int) -> None:
        for path in paths[start::SYNC_THREADS]:
            sync(path)

    with ThreadPoolExecutor(SYNC_THREADS) as pool:
        for _ in pool.map(sync_some, range(SYNC_THREADS)):
            pass


def check_no_external_links(folder: Path) -> None:
    """Refuse a folder that contains a symbolic link out of it, before anything is read or written.

    The folder itself may be reached by a link, since the caller named it.

    Raises:
        BadData: names the first such link.
    """
    root = folder.resolve()
    for where, folders, files in os.walk(root):
        for name in (*folders, *files):
            path = Path(where, name)
            if path.is_symlink() and not Path(os.path.realpath(path)).is_relative_to(root):
                raise BadData(
                    f"{path} is a link that leads out of {folder}, to {path.readlink()};"
                    " put a copy in its place"
                )
        folders[:] = [name for name in folders if not name.endswith(NOT_ENTERED)]


def write_json(path: Path, document: Any) -> None:
    """Write a JSON document whole or not at all; NaN, which JSON lacks, must be None by now."""
    with atomic_file(path) as partial:
        partial.write_text(json.dumps(document, indent=1, allow_nan=False) + "\n", encoding="utf-8")


def read_json(path: Path, max_bytes: int | None = None) -> Any:
    """Read a JSON document.

    Args:
        path: of the file.
        max_bytes: largest size allowed, for files that are not trusted.

    Raises:
        BadData: missing, not JSON, or too large.
    """
    try:
        if max_bytes is not None and path.stat().st_size > max_bytes:
            raise ValueError(f"{path.stat().st_size} bytes, expected {max_bytes} at most")
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise BadData(f"{path} is missing") from None
    except (OSError, ValueError, RecursionError) as error:
        raise BadData(f"{path} cannot be read as JSON ({error}); restore it or remove it") from None


def create_npy(path: Path, *, dtype: Any, shape: tuple[int, ...]) -> Any:
    """Create a `.npy` file and return a memory map to write through.

    Disk space is allocated at once: on a disk that fills up later, writing through the map would
    end the process by a signal, without a message.

    Raises:
        OSError: not enough disk space.
    """
    array = np.lib.format.open_memmap(path, mode="w+", dtype=dtype, shape=shape)
    with path.open("rb+") as file:
        os.posix_fallocate(file.fileno(), 0, path.stat().st_size)
    return array


def open_array(path: Path, key: str | None = None) -> Array:
    """Return a read-only memory map of a `.npy` file, or of one array of a `.npz`.

    Args:
        path: of the file; a `.npz` is unpacked into an unnamed temporary file first.
        key: array of a `.npz`; None if it holds only one.

    Raises:
        BadData: missing, truncated, pickled, or not such a file.
    """
    if not path.is_file():
        raise BadData(f"{path} is missing; expected a .npy or .npz file")
    if path.suffix.lower() == ".npz":
        return _from_archive(path, key)
    return _mapped(path, str(path))


def check_file_names(names: Iterable[str]) -> None:
    """Check that each image's name can be that of a file, before any is written.

    Raises:
        BadData: one cannot, or not in the encoding that this system has for names.
    """
    for name in names:
        plain = Path(name).name == name and name.isprintable() and not name.startswith(".")
        if not plain or len(name.encode()) > MAX_NAME_BYTES:
            raise BadData(
                f"id {shorten(name)} cannot be a file name; expected one without '/' and leading"
                f" '.', of at most {MAX_NAME_BYTES} bytes"
            )
        try:
            os.fsencode(name)
        except UnicodeEncodeError:
            raise BadData(
                f"id {name!a} cannot be a file name in {sys.getfilesystemencoding()}, the"
                " encoding of this system; set PYTHONUTF8=1"
            ) from None


def create_stack(
    path: Path, *, dtype: Any, extent: Extent, channels: tuple[int, ...] = ()
) -> Stack:
    """Create a `.npy` file for images, (image, *channels, row, col), to write through.

    Where sizes differ, the file holds all values in a row, image after image; the extent is needed
    to read it.

    Raises:
        OSError: not enough disk space.
    """
    if len(extent.runs) == 1:
        shape = (len(extent), *channels, *extent.runs[0][1])
        return create_npy(path, dtype=dtype, shape=shape)
    values = extent.pixels * math.prod(channels)
    return _as_images(create_npy(path, dtype=dtype, shape=(values,)), extent, channels)


def open_stack(path: Path, extent: Extent, channels: tuple[int, ...] = ()) -> Stack:
    """Open a file that `create_stack` made, as read-only memory maps.

    Raises:
        BadData: missing or damaged, or not of this extent.
    """
    array = open_array(path)
    if len(extent.runs) == 1:
        return array
    expected = extent.pixels * math.prod(channels)
    if array.shape != (expected,):
        raise BadData(f"{path} has shape {array.shape}; expected ({expected},); write it again")
    return _as_images(array, extent, channels)


def _as_images(flat: Array, extent: Extent, channels: tuple[int, ...]) -> Ragged:
    parts, start = [], 0
    for count, size in extent.runs:
        shape = (count, *channels, *size)
        stop = start + math.prod(shape)
        parts.append(flat[start:stop].reshape(shape))
        start = stop
    return Ragged(parts)


def array_names(path: Path) -> list[str]:
    """List the arrays of a `.npz`.

    Raises:
        BadData: missing, or not such a file.
    """
    with open_npz(path) as (_, arrays):
        return list(arrays)


def _from_archive(path: Path, key: str | None) -> Array:
    names = array_names(path)
    if key is None and len(names) != 1:
        raise BadData(f"{path} holds {', '.join(names) or 'nothing'}; expected one array per file")
    key = names[0] if key is None else key
    header_of(path, key)  # checked before disk space is used
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
        with PARSING:
            mapped: Array = np.load(path, mmap_mode="r", allow_pickle=False)
    except (ValueError, OSError, EOFError) as error:
        raise BadData(
            f"{name} is no readable .npy array ({error}); write it again with np.save"
        ) from None
    return mapped
