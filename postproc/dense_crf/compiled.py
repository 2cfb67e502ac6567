"""The compiled kernel: how it is found, and what Python hands over to it."""

import ctypes
import functools
from collections.abc import Callable
from ctypes import POINTER, Structure, c_float, c_int, c_int32, c_void_p, pointer
from pathlib import Path

import numpy as np

from evaluation.ground.arrays import Array, Map, Pictures
from evaluation.ground.errors import BadSpec
from postproc.dense_crf import grid
from postproc.dense_crf.grid import Quality
from postproc.dense_crf.model import Kernel, Model

LIBRARY = Path(__file__).with_name("kernel.so")


class Axis(Structure):
    """Mirrors `Axis` of kernel.h."""

    _fields_ = (("step", c_int32), ("reach", c_int32), ("taps", c_void_p))


class Place(Structure):
    """Mirrors `Place` of kernel.h."""

    _fields_ = (
        ("axis", Axis),
        ("scale_y", c_void_p),
        ("scale_x", c_void_p),
        ("gain", c_float),
        ("gains", c_void_p),
    )


class Colour(Structure):
    """Mirrors `Colour` of kernel.h."""

    _fields_ = (("place", Axis), ("level", Axis), ("gain", c_float), ("gains", c_void_p))


class Problem(Structure):
    """Mirrors `Problem` of kernel.h."""

    _fields_ = (
        *((name, c_int32) for name in ("pictures", "classes", "rows", "cols", "iterations")),
        ("floor", c_float),
        ("place", POINTER(Place)),
        ("colour", POINTER(Colour)),
    )


def infer(maps: Map, greys: Pictures | None, model: Model, quality: Quality) -> Map:
    """Return the mean-field maps of a block of grey pictures; other threads run meanwhile.

    Args:
        maps: (picture, class, row, col).
        greys: uint8 (picture, 1, row, col); None where no kernel looks at colour.
        model: the field.
        quality: how narrow the cells of the grid are.

    Raises:
        MemoryError: no room for one picture's work.
    """
    count, classes, rows, cols = maps.shape
    handed = _Handed()
    problem = Problem(count, classes, rows, cols, model.iterations, model.floor)
    for kernel in model.kernels:
        place, level = grid.axes(kernel, quality)
        if level is None:
            scales = handed.floats(place.scales(rows)), handed.floats(place.scales(cols))
            problem.place = pointer(Place(handed.axis(place), *scales, *handed.gains(kernel)))
        else:
            pair = handed.axis(place), handed.axis(level)
            problem.colour = pointer(Colour(*pair, *handed.gains(kernel)))
    maps = np.ascontiguousarray(maps, np.float32)
    greys = None if greys is None else np.ascontiguousarray(greys)
    result = np.empty(maps.shape, np.float32)
    seen = None if greys is None else greys.ctypes.data
    if load()(problem, maps.ctypes.data, seen, result.ctypes.data):
        raise MemoryError(f"no room for a picture of {classes} x {rows} x {cols}")
    return result


@functools.cache
def load() -> Callable[..., int]:
    """Return the library's one function; ctypes lets go of Python's lock while it runs.

    Raises:
        BadSpec: there is no library, since nothing has built it here.
    """
    try:
        function = ctypes.CDLL(str(LIBRARY)).dense_crf
    except OSError as error:
        raise BadSpec(
            f"its compiled kernel cannot be loaded ({error}); run `pip install -e .` in the source"
            " folder, or write backend=pydensecrf"
        ) from None
    function.argtypes = (POINTER(Problem), c_void_p, c_void_p, c_void_p)
    function.restype = c_int
    found: Callable[..., int] = function
    return found


class _Handed:
    """Arrays that the library reads, kept alive while it runs."""

    def __init__(self) -> None:
        self._arrays: list[Array] = []

    def floats(self, values: Array) -> int:
        self._arrays.append(np.ascontiguousarray(values, np.float32))
        return self._arrays[-1].ctypes.data

    def axis(self, axis: grid.Axis) -> Axis:
        return Axis(axis.step, len(axis.taps) - 1, self.floats(axis.taps))

    def gains(self, kernel: Kernel) -> tuple[float, int | None]:
        if kernel.potts is not None:
            return kernel.potts, None
        return 1.0, self.floats(-kernel.costs)
