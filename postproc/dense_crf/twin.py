"""The compiled kernel's algorithm in plain NumPy and float64: slow, short, to compare with."""

from collections.abc import Callable

import numpy as np
from scipy import sparse

from evaluation.ground.arrays import Array, Map, Pictures
from postproc.dense_crf import grid
from postproc.dense_crf.grid import Axis, Quality
from postproc.dense_crf.model import Kernel, Model, softmax, unary

Filter = Callable[[Array], Array]


def infer(maps: Map, greys: Pictures | None, model: Model, quality: Quality) -> Map:
    """Return the mean-field maps of a block of grey pictures; see `compiled.infer`."""
    result = np.empty(maps.shape, np.float32)
    for number, one in enumerate(maps):
        grey = None if greys is None else greys[number, 0]
        result[number] = _one(one[None].astype(np.float64), grey, model, quality)[0]
    return result


def _one(map_: Map, grey: Array | None, model: Model, quality: Quality) -> Map:
    size = map_.shape[2:]
    filters = [_filter(kernel, size, grey, quality) for kernel in model.kernels]
    costs = unary(map_, model.floor)
    q = softmax(-costs)
    for _ in range(model.iterations):
        scores = -costs
        for kernel, filtered in zip(model.kernels, filters, strict=True):
            received = filtered(q.reshape(model.classes, -1))
            scores -= (kernel.costs.astype(np.float64) @ received).reshape(q.shape)
        q = softmax(scores)
    return q


def _filter(kernel: Kernel, size: tuple[int, ...], grey: Array | None, quality: Quality) -> Filter:
    place, level = grid.axes(kernel, quality)
    values = [axis.ravel() for axis in np.indices(size)]
    axes = [place, place]
    if level is not None and grey is not None:
        values.append(grey.ravel().astype(np.intp) - grey.min())
        axes.append(level)
    cells = [axis.cells(int(value.max()) + 1) for axis, value in zip(axes, values, strict=True)]
    spread = _interpolation(axes, values, cells)
    blurs = [_blur(axis, count) for axis, count in zip(axes, cells, strict=True)]

    def smooth(q: Array) -> Array:
        inside = (q @ spread).reshape(-1, *cells)
        for place, blur in enumerate(blurs, start=1):
            inside = np.moveaxis(np.tensordot(inside, blur, (place, 0)), -1, place)
        found: Array = inside.reshape(len(q), -1) @ spread.T
        return found

    scale = 1 / np.sqrt(np.maximum(smooth(np.ones((1, spread.shape[0]))), 1e-20))
    return lambda q: scale * smooth(scale * q)


def _interpolation(axes: list[Axis], values: list[Array], cells: list[int]) -> sparse.csr_array:
    """Return weights (pixel, cell): each pixel lies between two cells along every axis."""
    pixels = len(values[0])
    cell, weight = np.zeros((1, pixels), np.intp), np.ones((1, pixels))
    for axis, value, count in zip(axes, values, cells, strict=True):
        first, share = cell * count + value // axis.step, value % axis.step / axis.step
        cell = np.concatenate([first, first + 1])
        weight = np.concatenate([weight * (1 - share), weight * share])
    pixel = np.tile(np.arange(pixels), len(cell))
    shape = pixels, int(np.prod(cells))
    return sparse.csr_array((weight.ravel(), (pixel, cell.ravel())), shape)


def _blur(axis: Axis, cells: int) -> Array:
    apart = np.abs(np.arange(cells)[:, None] - np.arange(cells))
    reach = len(axis.taps) - 1
    return np.where(apart <= reach, axis.taps[np.minimum(apart, reach)], 0)
