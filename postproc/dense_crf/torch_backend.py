"""The grey grid of `cpp_backend` in torch: a block of images at once, for a GPU."""

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from evaluation.core.types import Array, Images, Map
from members.devices import devices
from postproc.dense_crf import grid
from postproc.dense_crf.grid import Quality
from postproc.dense_crf.model import CrfParams, Kernel

# An image's index or weight is repeated over its classes; one that all images share, over them.
Index = Int[Tensor, "repeated corner pixel"]
Weight = Float[Tensor, "repeated corner pixel"]
Flat = Float[Tensor, "image _ pixel"]
TINY = 1e-20


def infer(maps: Map, greys: Images | None, params: CrfParams, quality: Quality) -> Map:
    """Return the mean-field maps of a block of grey images, all iterations, in float32.

    It runs on the first GPU that torch sees, else on the CPU, where `cpp_backend` is faster.

    Args:
        greys: uint8 (image, 1, row, col); None where no kernel uses colour.
        quality: how narrow the cells of the grid are.
    """
    device = devices("auto")[0]
    with torch.inference_mode():
        logs = (
            torch.tensor(np.ascontiguousarray(maps), device=device)
            .flatten(2)
            .clamp(min=params.floor)
            .log()
        )
        grids = [_build_grid(kernel, maps, greys, quality, device) for kernel in params.kernels]
        costs = [torch.tensor(kernel.costs, device=device) for kernel in params.kernels]
        q = logs.softmax(1)
        for _ in range(params.iterations):
            scores = logs
            for smoother, cost in zip(grids, costs, strict=True):
                scores = scores - cost @ (smoother.smooth(q * smoother.scale) * smoother.scale)
            q = scores.softmax(1)
        result: Map = q.reshape(maps.shape).cpu().numpy()
        return result


@dataclass(frozen=True)
class _Grid:
    """The grid of each image, or one for all of them.

    Args:
        index: the cells that each pixel is interpolated between.
        weight: its interpolation weights.
        blurs: the blur matrix of each axis.
        scale: normalisation of pixels, 1 / sqrt(K 1).
    """

    index: Index
    weight: Weight
    blurs: tuple[Float[Tensor, "_ _"], ...]
    scale: Float[Tensor, "repeated 1 pixel"] | float = 1.0

    def smooth(self, q: Flat) -> Flat:
        """Splat to the cells, blur, and slice."""
        counts = [len(blur) for blur in self.blurs]
        cells = q.new_zeros(*q.shape[:2], int(np.prod(counts)))
        corners = [
            (index[:, None].expand(*q.shape), weight[:, None])
            for index, weight in zip(self.index.unbind(1), self.weight.unbind(1), strict=True)
        ]
        for index, weight in corners:
            cells.scatter_add_(2, index, q * weight)
        cells = cells.reshape(*q.shape[:2], *counts)
        for axis, blur in enumerate(self.blurs, start=2):
            cells = torch.tensordot(cells, blur, ([axis], [0])).movedim(-1, axis)
        cells = cells.flatten(2)
        return sum((cells.gather(2, index) * weight for index, weight in corners), q.new_zeros(()))


def _build_grid(
    kernel: Kernel, maps: Map, greys: Images | None, quality: Quality, device: str
) -> _Grid:
    position, level = grid.axes(kernel, quality)
    axes = [(position, each) for each in np.indices(maps.shape[2:]).reshape(2, 1, -1)]
    if level is not None and greys is not None:
        grey = greys.reshape(len(greys), -1).astype(np.intp)
        axes.append((level, grey - grey.min(axis=1, keepdims=True)))
    index, weight = np.zeros((1, 1, 1), np.intp), np.ones((1, 1, 1))
    for axis, value in axes:
        cell, share = value // axis.step, value % axis.step / axis.step
        count = axis.cells(int(value.max()) + 1)
        index = _outer(np.add, index * count, np.stack([cell, cell + 1], axis=1))
        weight = _outer(np.multiply, weight, np.stack([1 - share, share], axis=1))
    weights = torch.tensor(weight, dtype=torch.float32, device=device)
    blurs = tuple(
        torch.tensor(axis.matrix(axis.cells(int(value.max()) + 1)), dtype=torch.float32).to(device)
        for axis, value in axes
    )
    unscaled = _Grid(torch.tensor(index, device=device), weights, blurs)
    ones = unscaled.smooth(weights.new_ones(len(index), 1, index.shape[2]))
    return replace(unscaled, scale=ones.clamp(min=TINY).rsqrt())


def _outer(combine: Callable[[Array, Array], Array], left: Array, right: Array) -> Array:
    """Combine each corner so far with each of another axis: (image, corner, pixel)."""
    corners = combine(left[:, :, None], right[:, None])
    return corners.reshape(len(corners), -1, corners.shape[-1])
