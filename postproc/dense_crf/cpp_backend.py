"""The compiled kernel: how it is found, and what Python hands over to it."""

import ctypes
import functools
from collections.abc import Callable
from ctypes import POINTER, Structure, c_float, c_int, c_int32, c_int64, c_void_p, pointer
from pathlib import Path

import numpy as np

from evaluation.core.errors import BadSpec
from evaluation.core.types import (
    Array,
    Images,
    Kept,
    Map,
)
from postproc.dense_crf import grid
from postproc.dense_crf.grid import Quality, lattice
from postproc.dense_crf.model import Kernel, Model

LIBRARY = Path(__file__).with_name("kernel.so")
MOST_CELLS = 8  # a pixel: with more, pydensecrf is faster


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


class Grey(Structure):
    """Mirrors `Grey` of kernel.h."""

    _fields_ = (("place", Axis), ("level", Axis), ("gain", c_float), ("gains", c_void_p))


class Colour(Structure):
    """Mirrors `Colour` of kernel.h."""

    _fields_ = (
        ("place", Axis),
        ("reach", c_int32),
        ("steps", c_void_p),
        ("taps", c_void_p),
        ("scale", c_float),
        ("most_cells", c_int64),
        ("gain", c_float),
        ("gains", c_void_p),
    )


class Problem(Structure):
    """Mirrors `Problem` of kernel.h."""

    _fields_ = (
        *((name, c_int32) for name in ("images", "classes", "rows", "cols", "iterations")),
        ("floor", c_float),
        ("place", POINTER(Place)),
        ("grey", POINTER(Grey)),
        ("colour", POINTER(Colour)),
    )


def infer(maps: Map, images: Images | None, model: Model, quality: Quality) -> tuple[Map, Kept]:
    """Return the mean-field maps of a block of images; other threads run meanwhile.

    Args:
        maps: (image, class, row, col).
        images: uint8 (image, channel, row, col), grey or of three colours; None where no kernel
            looks at colour.
        model: the field.
        quality: how narrow the cells of the grid are.

    Returns:
        The maps, and which are done. Those of images in colour are not where their colours are so
        many, for kernels so small, that the grid would have over MOST_CELLS cells a pixel.

    Raises:
        MemoryError: no room for one image's work.
    """
    count, classes, rows, cols = maps.shape
    handed = _Handed()
    problem = Problem(count, classes, rows, cols, model.iterations, model.floor)
    for kernel in model.kernels:
        if kernel.srgb is None:
            problem.place = pointer(handed.place(kernel, quality, rows, cols))
        elif images is not None and images.shape[1] == 1:
            problem.grey = pointer(handed.grey(kernel, quality))
        else:
            problem.colour = pointer(handed.colour(kernel, quality, rows * cols))
    maps = np.ascontiguousarray(maps, np.float32)
    images = None if images is None else np.ascontiguousarray(images)
    result, left = np.empty(maps.shape, np.float32), np.empty(count, np.bool_)
    seen = None if images is None else images.ctypes.data
    if load()(problem, maps.ctypes.data, seen, result.ctypes.data, left.ctypes.data):
        raise MemoryError(f"no room for an image of {classes} x {rows} x {cols}")
    return result, ~left


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
    function.argtypes = (POINTER(Problem), *[c_void_p] * 4)
    function.restype = c_int
    found: Callable[..., int] = function
    return found


class _Handed:
    """Arrays that the library reads, kept alive while it runs."""

    def __init__(self) -> None:
        self._arrays: list[Array] = []

    def place(self, kernel: Kernel, quality: Quality, rows: int, cols: int) -> Place:
        axis, _ = grid.axes(kernel, quality)
        scales = self._floats(axis.scales(rows)), self._floats(axis.scales(cols))
        return Place(self._axis(axis), *scales, *self._gains(kernel))

    def grey(self, kernel: Kernel, quality: Quality) -> Grey:
        place, level = grid.axes(kernel, quality)
        assert level is not None
        return Grey(self._axis(place), self._axis(level), *self._gains(kernel))

    def colour(self, kernel: Kernel, quality: Quality, pixels: int) -> Colour:
        assert kernel.srgb is not None
        place, colours = grid.place_beside_colours(kernel, quality), lattice(kernel.srgb, quality)
        steps = self._kept(colours.steps[:, :3].astype(np.int32))
        taps = len(colours.taps), steps, self._floats(colours.taps)
        room = colours.scale, MOST_CELLS * pixels
        return Colour(self._axis(place), *taps, *room, *self._gains(kernel))

    def _kept(self, values: Array) -> int:
        self._arrays.append(np.ascontiguousarray(values))
        return self._arrays[-1].ctypes.data

    def _floats(self, values: Array) -> int:
        return self._kept(values.astype(np.float32))

    def _axis(self, axis: grid.Axis) -> Axis:
        return Axis(axis.step, len(axis.taps) - 1, self._floats(axis.taps))

    def _gains(self, kernel: Kernel) -> tuple[float, int | None]:
        if kernel.potts is not None:
            return kernel.potts, None
        return 1.0, self._floats(-kernel.costs)
