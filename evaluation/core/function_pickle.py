"""Functions for other processes: closures by value, memory maps and folders by path."""

import functools
import io
import mmap
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
    """A pickled function, unpickled once in each process that calls it.

    Args:
        packed: the pickle, with the function's closure.
        modules: plugins that the function may need.
        folder: working folder of the command, in which plugins may lie.
    """

    packed: bytes
    modules: tuple[str, ...]
    folder: str

    def __call__(self, *arguments: Any) -> Any:
        """Call the function."""
        return self._function(*arguments)

    def __reduce__(self) -> tuple[type["PickledFunction"], tuple[bytes, tuple[str, ...], str]]:
        return PickledFunction, (
            self.packed,
            self.modules,
            self.folder,
        )

    @functools.cached_property
    def _function(self) -> Callable[..., Any]:
        if self.modules and self.folder not in sys.path:
            sys.path.append(self.folder)
        plugins.load_plugins(self.modules)
        function: Callable[..., Any] = cloudpickle.loads(self.packed)
        return function


def pack(function: Callable[..., Any]) -> PickledFunction:
    """Pickle a function with its closure.

    A memory map is pickled as its file's path and its offset there, so its size does not matter;
    readers must see the file under the same absolute path. Paths are made absolute. Objects that
    hold locks or memory per thread define `__reduce__`.
    """
    file = io.BytesIO()
    _Pickler(file).dump(function)
    return PickledFunction(file.getvalue(), tuple(plugins.plugin_modules()), str(Path.cwd()))


class _Pickler(cloudpickle.Pickler):  # type: ignore[misc]
    def reducer_override(self, obj: Any) -> Any:
        if isinstance(obj, np.ndarray) and (location := mmap_location(obj)) is not None:
            return reopen_mmap, location
        if isinstance(obj, Path):
            return Path, (str(obj.absolute()),)
        return super().reducer_override(obj)


Location = tuple[str, str, str, tuple[int, ...], tuple[int, ...], int]
"""Path, mode, dtype, shape, strides and offset in bytes."""


def mmap_location(array: Array) -> Location | None:
    """Return the location in its file of a memory map, or of any view of one.

    Returns:
        None for an array in memory, and for a map whose file was unlinked.
    """
    root: Any = array
    while isinstance(root.base, np.ndarray):
        root = root.base
    if not isinstance(root, np.memmap) or not isinstance(root.base, mmap.mmap) or not array.size:
        return None
    if root.filename is None or root.mode == "c" or not Path(root.filename).is_file():
        return None
    start, first = (a.__array_interface__["data"][0] for a in (root, array))
    path, mode = str(Path(root.filename).absolute()), "r" if root.mode == "r" else "r+"
    offset = root.offset + first - start
    return path, mode, array.dtype.str, array.shape, array.strides, offset


def reopen_mmap(
    path: str, mode: Any, dtype: str, shape: tuple[int, ...], strides: tuple[int, ...], offset: int
) -> Array:
    """Map the part of a file that `mmap_location` returned.

    Raises:
        BadData: the file is missing, or too short.
    """
    try:
        whole = np.memmap(path, np.uint8, mode)
        return np.ndarray(shape, dtype, buffer=whole, offset=offset, strides=strides)
    except (OSError, ValueError, TypeError) as error:
        raise BadData(
            f"{path} cannot be mapped on {platform.node()} ({error}); workers must see the files"
            " under the same path"
        ) from None
