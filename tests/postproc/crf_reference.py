"""The compiled CRF's algorithm in plain NumPy and float64: slow, short, to compare with."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pytest
from jaxtyping import Float, Int
from scipy import sparse

import postproc.steps.crf
from evaluation.core.types import Array, Images, Map
from postproc.dense_crf import grid
from postproc.dense_crf.grid import Axis, Lattice, Quality, lattice, simplices
from postproc.dense_crf.model import CrfParams, Kernel, softmax, unary
from postproc.step import Step
from postproc.steps import STEPS

FLOOR = 2.0**-25
REFERENCE = "reference"

Filter = Callable[[Array], Array]


def build_crf(spec: str, classes: int = 3) -> Step:
    """Build a CRF step; `backend=reference` is the implementation below."""
    context = {"classes": classes, "ignore": 0, "floor": FLOOR}
    if f"backend={REFERENCE}" not in spec:
        step: Step = STEPS.build(spec, **context)
        return step

    def reference(params: CrfParams, quality: Quality) -> Callable[[Map, Images | None], Map]:
        return lambda maps, images: infer(maps, images, params, quality)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(postproc.steps.crf, "_compiled", reference)
        patched: Step = STEPS.build(spec.replace(f"backend={REFERENCE}", "backend=ours"), **context)
        return patched


def infer(maps: Map, images: Images | None, params: CrfParams, quality: Quality) -> Map:
    """Return the mean-field maps of a block of images; see `cpp_backend.infer`."""
    result = np.empty(maps.shape, np.float32)
    for index, one in enumerate(maps):
        image = None if images is None else images[index]
        result[index] = _infer_image(one[None].astype(np.float64), image, params, quality)[0]
    return result


def _infer_image(maps: Map, image: Array | None, params: CrfParams, quality: Quality) -> Map:
    size = maps.shape[2:]
    filters = [_filter(axes(kernel, size, image, quality)) for kernel in params.kernels]
    costs = unary(maps, params.floor)
    q = softmax(-costs)
    for _ in range(params.iterations):
        scores = -costs
        for kernel, filtered in zip(params.kernels, filters, strict=True):
            received = filtered(q.reshape(params.classes, -1))
            scores -= (kernel.costs.astype(np.float64) @ received).reshape(q.shape)
        q = softmax(scores)
    return q


@dataclass(frozen=True)
class Cells:
    """Cells along one axis of an image's grid.

    Args:
        cell: the cells that each pixel is interpolated between.
        weight: its interpolation weights.
        blur: the blur as a matrix.
    """

    cell: Int[np.ndarray, "corner pixel"]
    weight: Float[np.ndarray, "corner pixel"]
    blur: Float[np.ndarray, "cell other"]


def axes(
    kernel: Kernel, size: tuple[int, ...], image: Array | None, quality: Quality
) -> list[Cells]:
    """Return the axes of an image's grid: rows, columns, and grey levels or colours."""
    row, col = np.indices(size).reshape(2, -1)
    position, level = grid.axes(kernel, quality)
    if kernel.srgb is None or level is None or image is None:
        return [_along(position, row), _along(position, col)]
    if len(image) == 1:
        grey = image.ravel().astype(np.intp)
        return [_along(position, row), _along(position, col), _along(level, grey - grey.min())]
    position = grid.position_axis_with_colour(kernel, quality)
    colours = image.reshape(len(image), -1).T.astype(np.float64)
    width = grid.block_width(kernel, quality)
    return [
        _along(position, _middles(row, width, size[0])),
        _along(position, _middles(col, width, size[1])),
        _among(lattice(kernel.srgb, quality), colours),
    ]


def _middles(value: Array, width: int, length: int) -> Array:
    """Return the middle of the block that each position is in."""
    start = value // width * width
    middle: Array = (start + np.minimum(start + width, length) - 1) / 2
    return middle


def _along(axis: Axis, value: Array) -> Cells:
    first, share = (value // axis.step).astype(np.intp), value % axis.step / axis.step
    blur = axis.matrix(axis.cells(int(value.max()) + 1))
    return Cells(np.stack([first, first + 1]), np.stack([1 - share, share]), blur)


def _among(colours: Lattice, values: Array) -> Cells:
    corners, weights = simplices(values, colours.scale)
    vertices, cell = np.unique(corners.reshape(-1, 4), axis=0, return_inverse=True)
    number = {tuple(vertex): index for index, vertex in enumerate(vertices.tolist())}
    blur = np.zeros((len(vertices), len(vertices)))
    for step, tap in zip(colours.steps, colours.taps, strict=True):
        for index, vertex in enumerate((vertices + step).tolist()):
            if tuple(vertex) in number:
                blur[index, number[tuple(vertex)]] = tap
    return Cells(cell.reshape(-1, 4).T, weights.T, blur)


def _filter(axes: list[Cells]) -> Filter:
    counts = [len(axis.blur) for axis in axes]
    spread = _interpolation(axes, counts)

    def smooth(q: Array) -> Array:
        inside = (q @ spread).reshape(-1, *counts)
        for number, axis in enumerate(axes, start=1):
            inside = np.moveaxis(np.tensordot(inside, axis.blur, (number, 0)), -1, number)
        smoothed: Array = inside.reshape(len(q), -1) @ spread.T
        return smoothed

    scale = 1 / np.sqrt(np.maximum(smooth(np.ones((1, spread.shape[0]))), 1e-20))
    return lambda q: scale * smooth(scale * q)


def _interpolation(axes: list[Cells], counts: list[int]) -> sparse.csr_array:
    """Return weights (pixel, cell): the interpolation along every axis."""
    pixels = axes[0].cell.shape[1]
    cell, weight = np.zeros((1, pixels), np.intp), np.ones((1, pixels))
    for axis, count in zip(axes, counts, strict=True):
        cell = (cell[:, None] * count + axis.cell).reshape(-1, pixels)
        weight = (weight[:, None] * axis.weight).reshape(-1, pixels)
    pixel = np.tile(np.arange(pixels), len(cell))
    shape = pixels, int(np.prod(counts))
    return sparse.csr_array((weight.ravel(), (pixel, cell.ravel())), shape)
