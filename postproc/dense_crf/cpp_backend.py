"""The compiled kernel: loaded through ctypes, and given its arguments as C structures."""

import ctypes
import functools
import math
from collections.abc import Callable
from ctypes import POINTER, Structure, c_float, c_int, c_int32, c_int64, c_void_p, pointer
from pathlib import Path

import numpy as np

from evaluation.core.errors import BadSpec
from evaluation.core.types import Array, Images, Kept, Map
from postproc.dense_crf import grid
from postproc.dense_crf.grid import Quality, lattice
from postproc.dense_crf.model import CrfParams, Kernel

LIBRARY = Path(__file__).with_name("kernel.so")
MAX_CELLS = 4_000_000  # 16 labels of them take 512 MB
NO_LIMIT = 2**62
MARGIN = 3.0  # of tiles, in standard deviations of the position


class Axis(Structure):
    """Mirrors `Axis` of kernel.h."""

    _fields_ = (("step", c_int32), ("reach", c_int32), ("taps", c_void_p))


class PositionAxis(Structure):
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
        ("fine", c_int32),
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
        ("place", POINTER(PositionAxis)),
        ("grey", POINTER(Grey)),
        ("colour", POINTER(Colour)),
    )


def infer(maps: Map, images: Images | None, params: CrfParams, quality: Quality) -> Map:
    """Return the mean-field maps of a block of images; other threads run meanwhile.

    A colour image whose grid would need more than MAX_CELLS (very many colours, or a very small
    kernel, on a large image) is processed in tiles that overlap.

    Args:
        images: uint8 (image, channel, row, col), 1 or 3 channels; None where no kernel uses colour.
        quality: how narrow the cells of the grid are.

    Raises:
        MemoryError: not enough memory for one image.
    """
    result, done = infer_whole(maps, images, params, quality, max_cells=MAX_CELLS)
    for index in np.flatnonzero(~done):
        assert images is not None
        block = slice(index, index + 1)
        result[block] = _infer_halves(maps[block], images[block], params, quality)
    return result


def _infer_halves(maps: Map, images: Images, params: CrfParams, quality: Quality) -> Map:
    """Return the maps of one image from two halves that overlap, and these from halves in turn."""
    margin = math.ceil(MARGIN * max(kernel.sxy for kernel in params.kernels))
    axis = 2 if maps.shape[2] >= maps.shape[3] else 3
    middle, length = maps.shape[axis] // 2, maps.shape[axis]
    if middle < 2 * margin:  # halves would hardly be smaller
        return infer_whole(maps, images, params, quality, max_cells=NO_LIMIT)[0]
    halves = []
    for start, stop in ((0, middle + margin), (middle - margin, length)):
        part = (slice(None),) * axis + (slice(start, stop),)
        half, done = infer_whole(maps[part], images[part], params, quality, max_cells=MAX_CELLS)
        if not done.all():
            half = _infer_halves(maps[part], images[part], params, quality)
        kept = slice(0, middle) if start == 0 else slice(middle - start, length - start)
        halves.append(half[(slice(None),) * axis + (kept,)])
    return np.concatenate(halves, axis=axis)


def infer_whole(
    maps: Map, images: Images | None, params: CrfParams, quality: Quality, *, max_cells: int
) -> tuple[Map, Kept]:
    """Return the maps of each image as a whole, and which are done; see `infer`.

    Args:
        max_cells: of an image's grid of colours; images that need more are not done.
    """
    count, classes, rows, cols = maps.shape
    arguments = _CArguments()
    sizes = count, classes, rows, cols
    problem = Problem(*sizes, params.iterations, params.floor)
    for kernel in params.kernels:
        if kernel.srgb is None:
            problem.place = pointer(arguments.place(kernel, quality, rows, cols))
        elif images is not None and images.shape[1] == 1:
            problem.grey = pointer(arguments.grey(kernel, quality))
        else:
            problem.colour = pointer(arguments.colour(kernel, quality, max_cells))
    maps = np.ascontiguousarray(maps, np.float32)
    images = None if images is None else np.ascontiguousarray(images)
    result, left = np.empty(maps.shape, np.float32), np.empty(count, np.bool_)
    pixels = None if images is None else images.ctypes.data
    if load_kernel()(problem, maps.ctypes.data, pixels, result.ctypes.data, left.ctypes.data):
        raise MemoryError(f"not enough memory for an image of {classes} x {rows} x {cols}")
    return result, ~left


@functools.cache
def load_kernel() -> Callable[..., int]:
    """Return the library's only function; ctypes releases Python's lock while it runs.

    Raises:
        BadSpec: the library was not built here.
    """
    try:
        function = ctypes.CDLL(str(LIBRARY)).dense_crf
    except OSError as error:
        raise BadSpec(
            f"the compiled kernel cannot be loaded ({error}); run `pip install -e .` in the source"
            " folder, or write backend=pydensecrf"
        ) from None
    function.argtypes = (POINTER(Problem), *[c_void_p] * 4)
    function.restype = c_int
    typed: Callable[..., int] = function
    return typed


class _CArguments:
    """Builds the C structures, and keeps the arrays that they point to alive."""

    def __init__(self) -> None:
        self._arrays: list[Array] = []

    def place(self, kernel: Kernel, quality: Quality, rows: int, cols: int) -> PositionAxis:
        axis, _ = grid.axes(kernel, quality)
        scales = self._floats(axis.scales(rows)), self._floats(axis.scales(cols))
        return PositionAxis(self._axis(axis), *scales, *self._gains(kernel))

    def grey(self, kernel: Kernel, quality: Quality) -> Grey:
        place, level = grid.axes(kernel, quality)
        assert level is not None
        return Grey(self._axis(place), self._axis(level), *self._gains(kernel))

    def colour(self, kernel: Kernel, quality: Quality, max_cells: int) -> Colour:
        assert kernel.srgb is not None
        place = grid.position_axis_with_colour(kernel, quality)
        colours = lattice(kernel.srgb, quality)
        steps = self._pointer(colours.steps[:, :3].astype(np.int32))
        taps = len(colours.taps), steps, self._floats(colours.taps)
        fine = grid.block_width(kernel, quality)
        size = colours.scale, max_cells
        return Colour(self._axis(place), fine, *taps, *size, *self._gains(kernel))

    def _pointer(self, values: Array) -> int:
        self._arrays.append(np.ascontiguousarray(values))
        return self._arrays[-1].ctypes.data

    def _floats(self, values: Array) -> int:
        return self._pointer(values.astype(np.float32))

    def _axis(self, axis: grid.Axis) -> Axis:
        return Axis(axis.step, len(axis.taps) - 1, self._floats(axis.taps))

    def _gains(self, kernel: Kernel) -> tuple[float, int | None]:
        if kernel.potts is not None:
            return kernel.potts, None
        return 1.0, self._floats(-kernel.costs)
