"""The compiled kernel's algorithm in plain NumPy and float64: slow, short, to compare with."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int
from scipy import sparse

from evaluation.core.types import Array, Images, Map
from postproc.dense_crf import grid
from postproc.dense_crf.grid import Axis, Lattice, Quality, lattice, simplices
from postproc.dense_crf.model import (
    Kernel,
    Model,
    softmax,
    unary,
)

Filter = Callable[[Array], Array]


def infer(maps: Map, images: Images | None, model: Model, quality: Quality) -> Map:
    """Return the mean-field maps of a block of images; see `compiled.infer`."""
    result = np.empty(maps.shape, np.float32)
    for number, one in enumerate(maps):
        image = None if images is None else images[number]
        result[number] = _one(one[None].astype(np.float64), image, model, quality)[0]
    return result


def _one(map_: Map, image: Array | None, model: Model, quality: Quality) -> Map:
    size = map_.shape[2:]
    filters = [_filter(axes(kernel, size, image, quality)) for kernel in model.kernels]
    costs = unary(map_, model.floor)
    q = softmax(-costs)
    for _ in range(model.iterations):
        scores = -costs
        for kernel, filtered in zip(model.kernels, filters, strict=True):
            received = filtered(q.reshape(model.classes, -1))
            scores -= (kernel.costs.astype(np.float64) @ received).reshape(q.shape)
        q = softmax(scores)
    return q


@dataclass(frozen=True)
class Cells:
    """Cells along one axis of an image's grid.

    Args:
        cell: those that each pixel lies between.
        weight: and how near to each.
        blur: what a cell gives another.
    """

    cell: Int[np.ndarray, "corner pixel"]
    weight: Float[np.ndarray, "corner pixel"]
    blur: Float[np.ndarray, "cell other"]


def axes(
    kernel: Kernel, size: tuple[int, ...], image: Array | None, quality: Quality
) -> list[Cells]:
    """Return the axes of an image's grid: rows, columns, and grey levels or colours."""
    row, col = np.indices(size).reshape(2, -1)
    place, level = grid.axes(kernel, quality)
    if kernel.srgb is None or level is None or image is None:
        return [_along(place, row), _along(place, col)]
    if len(image) == 1:
        grey = image.ravel().astype(np.intp)
        return [_along(place, row), _along(place, col), _along(level, grey - grey.min())]
    place = grid.place_beside_colours(kernel, quality)
    colours = image.reshape(len(image), -1).T.astype(np.float64)
    return [_along(place, row), _along(place, col), _among(lattice(kernel.srgb, quality), colours)]


def _along(axis: Axis, value: Array) -> Cells:
    first, share = value // axis.step, value % axis.step / axis.step
    blur = axis.matrix(axis.cells(int(value.max()) + 1))
    return Cells(np.stack([first, first + 1]), np.stack([1 - share, share]), blur)


def _among(colours: Lattice, values: Array) -> Cells:
    corners, weights = simplices(values, colours.scale)
    met, cell = np.unique(corners.reshape(-1, 4), axis=0, return_inverse=True)
    number = {tuple(vertex): place for place, vertex in enumerate(met.tolist())}
    blur = np.zeros((len(met), len(met)))
    for step, tap in zip(colours.steps, colours.taps, strict=True):
        for place, vertex in enumerate((met + step).tolist()):
            if tuple(vertex) in number:
                blur[place, number[tuple(vertex)]] = tap
    return Cells(cell.reshape(-1, 4).T, weights.T, blur)


def _filter(axes: list[Cells]) -> Filter:
    counts = [len(axis.blur) for axis in axes]
    spread = _interpolation(axes, counts)

    def smooth(q: Array) -> Array:
        inside = (q @ spread).reshape(-1, *counts)
        for place, axis in enumerate(axes, start=1):
            inside = np.moveaxis(np.tensordot(inside, axis.blur, (place, 0)), -1, place)
        found: Array = inside.reshape(len(q), -1) @ spread.T
        return found

    scale = 1 / np.sqrt(np.maximum(smooth(np.ones((1, spread.shape[0]))), 1e-20))
    return lambda q: scale * smooth(scale * q)


def _interpolation(axes: list[Cells], counts: list[int]) -> sparse.csr_array:
    """Return weights (pixel, cell): each pixel lies between some cells along every axis."""
    pixels = axes[0].cell.shape[1]
    cell, weight = np.zeros((1, pixels), np.intp), np.ones((1, pixels))
    for axis, count in zip(axes, counts, strict=True):
        cell = (cell[:, None] * count + axis.cell).reshape(-1, pixels)
        weight = (weight[:, None] * axis.weight).reshape(-1, pixels)
    pixel = np.tile(np.arange(pixels), len(cell))
    shape = pixels, int(np.prod(counts))
    return sparse.csr_array((weight.ravel(), (pixel, cell.ravel())), shape)
