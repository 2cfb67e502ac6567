"""Files written whole or not at all, and arrays read without trusting them."""

import contextlib
import errno
import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from evaluation.ground.arrays import Array
from evaluation.ground.claims import HEAD_BYTES, header_of, opened_archive, read_header
from evaluation.ground.errors import BadData
from evaluation.ground.leftovers import clear_beside, old_name, partial_name

SYNCED_AT_ONCE = 8


@contextlib.contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """Give a path to write to; it takes the name `path` once the block has ended well."""
    path.parent.mkdir(parents=True, exist_ok=True)
    clear_beside(path)
    partial = partial_name(path)
    try:
        yield partial
        sync(partial)
        partial.replace(path)
        sync(path.parent)
    finally:
        partial.unlink(missing_ok=True)


@contextlib.contextmanager
def whole_folder(path: Path) -> Iterator[Path]:
    """Give an empty folder; it takes the place of `path` once the block has ended well."""
    path.parent.mkdir(parents=True, exist_ok=True)
    clear_beside(path)
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


def new_array(path: Path, *, dtype: Any, shape: tuple[int, ...]) -> Any:
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
    with whole_file(path) as partial:
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
    with opened_archive(path) as (_, arrays):
        return list(arrays)


def _from_archive(path: Path, key: str | None) -> Array:
    names = array_names(path)
    if key is None and len(names) != 1:
        raise BadData(f"{path} holds {', '.join(names) or 'nothing'}; expected one array a file")
    key = names[0] if key is None else key
    header_of(path, key)  # what it claims, before room is taken for it
    with opened_archive(path) as (archive, arrays), tempfile.TemporaryDirectory() as folder:
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
