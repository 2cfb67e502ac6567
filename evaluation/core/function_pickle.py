"""Work to send to another process: functions by value, memory maps and folders by path."""

import functools
import io
import mmap
import os
import platform
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cloudpickle  # type: ignore[import-untyped]
import numpy as np

from evaluation.core import plugins
from evaluation.core.errors import BadData
from evaluation.core.types import Array


@dataclass(frozen=True)
class PickledFunction:
    """A function with all it holds, packed once and unpacked once in each process that calls it.

    Args:
        packed: the function.
        modules: plugins that it may need.
        folder: that the verb was started in, where plugins may lie.
    """

    packed: bytes
    modules: tuple[str, ...]
    folder: str

    def __call__(self, *arguments: Any) -> Any:
        """Call the function."""
        return self._function(*arguments)

    def __reduce__(self) -> tuple[type["PickledFunction"], tuple[bytes, tuple[str, ...], str]]:
        return PickledFunction, (self.packed, self.modules, self.folder)  # never what was unpacked

    @functools.cached_property
    def _function(self) -> Callable[..., Any]:
        if self.modules and self.folder not in sys.path:
            sys.path.append(self.folder)
        plugins.load_plugins(self.modules)
        function: Callable[..., Any] = cloudpickle.loads(self.packed)
        return function


def pack(function: Callable[..., Any]) -> PickledFunction:
    """Pack a function with its closure.

    A memory map goes as the name of its file and the place in it, so that a map of any size weighs
    nothing; its readers must see the file under the same absolute path. So do paths: they are made
    absolute. What holds locks, or memory for each thread, says by `__reduce__` how it is made anew.
    """
    file = io.BytesIO()
    _Pickler(file).dump(function)
    modules = tuple(filter(None, os.environ.get(plugins.VARIABLE, "").split(",")))
    return PickledFunction(file.getvalue(), modules, str(Path.cwd()))


class _Pickler(cloudpickle.Pickler):  # type: ignore[misc]
    def reducer_override(self, obj: Any) -> Any:
        if isinstance(obj, np.ndarray) and (place := mmap_location(obj)) is not None:
            return reopen_mmap, place
        if isinstance(obj, Path):
            return Path, (str(obj.absolute()),)
        return super().reducer_override(obj)


Place = tuple[str, str, str, tuple[int, ...], tuple[int, ...], int]


def mmap_location(array: Array) -> Place | None:
    """Return where a memory map, or any view of one, lies in its file.

    Returns:
        Path, mode, type, shape, strides and offset in bytes; None for an array in memory, and for
        a map whose file has no name any more.
    """
    root: Any = array
    while isinstance(root.base, np.ndarray):
        root = root.base
    if not isinstance(root, np.memmap) or not isinstance(root.base, mmap.mmap) or not array.size:
        return None
    if root.filename is None or root.mode == "c" or not Path(root.filename).is_file():
        return None
    start, first = (one.__array_interface__["data"][0] for one in (root, array))
    path, mode = str(Path(root.filename).absolute()), "r" if root.mode == "r" else "r+"
    offset = root.offset + first - start
    return path, mode, array.dtype.str, array.shape, array.strides, offset


def reopen_mmap(
    path: str, mode: Any, dtype: str, shape: tuple[int, ...], strides: tuple[int, ...], offset: int
) -> Array:
    """Map a part of a file, as `mmap_location` told it.

    Raises:
        BadData: the file is not there, or too short.
    """
    try:
        whole = np.memmap(path, np.uint8, mode)
        return np.ndarray(shape, dtype, buffer=whole, offset=offset, strides=strides)
    except (OSError, ValueError, TypeError) as error:
        raise BadData(
            f"{path} cannot be mapped on {platform.node()} ({error}); workers must see the files"
            " under the same path"
        ) from None
