"""The grey grid of `cpp_backend` in torch: a block of images at once, for a GPU."""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from evaluation.core.ragged import Size
from evaluation.core.types import Images, Map
from members.devices import devices
from postproc.dense_crf import grid
from postproc.dense_crf.grid import Quality
from postproc.dense_crf.model import CrfParams, Kernel

# An image's index or weight is repeated over its classes; one that all images share, over them.
Index = Int[Tensor, "repeated corner pixel"]
Weight = Float[Tensor, "repeated corner pixel"]
Flat = Float[Tensor, "image _ pixel"]
TINY = 1e-20


def infer(
    maps: Map, greys: Images | None, params: CrfParams, quality: Quality, device: str = "auto"
) -> Map:
    """Return the mean-field maps of a block of grey images, all iterations, in float32.

    On the CPU `cpp_backend` is faster.

    Args:
        greys: uint8 (image, 1, row, col); None where no kernel uses colour.
        quality: how narrow the cells of the grid are.
        device: see `members.devices.devices`; of several, the first.
    """
    device = devices(device)[0]
    size = maps.shape[2], maps.shape[3]
    with torch.inference_mode():
        logs = torch.from_numpy(np.ascontiguousarray(maps)).to(device)
        logs = logs.flatten(2).clamp(min=params.floor).log()
        grids = [_build_grid(kernel, size, greys, quality, device) for kernel in params.kernels]
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
        cells = q.new_zeros(*q.shape[:2], math.prod(counts))
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
    kernel: Kernel, size: Size, greys: Images | None, quality: Quality, device: str
) -> _Grid:
    position, level = grid.axes(kernel, quality)
    rows, cols = (torch.arange(side, device=device) for side in size)
    axes = [
        (position, rows.repeat_interleave(size[1])[None], size[0]),
        (position, cols.repeat(size[0])[None], size[1]),
    ]
    if level is not None and greys is not None:
        flat = greys.reshape(len(greys), -1)
        spread = int(np.ptp(flat, axis=1).max())  # on the host, which need not wait then
        grey = torch.from_numpy(np.ascontiguousarray(flat)).to(device).long()
        axes.append((level, grey - grey.amin(dim=1, keepdim=True), spread + 1))
    index = torch.zeros(1, 1, 1, dtype=torch.int64, device=device)
    weight = torch.ones(1, 1, 1, dtype=torch.float64, device=device)
    for axis, value, length in axes:
        cell, share = value // axis.step, (value % axis.step).double() / axis.step
        index = _outer(torch.add, index * axis.cells(length), torch.stack([cell, cell + 1], dim=1))
        weight = _outer(torch.mul, weight, torch.stack([1 - share, share], dim=1))
    blurs = tuple(
        torch.from_numpy(axis.matrix(axis.cells(length))).float().to(device)
        for axis, _, length in axes
    )
    weights = weight.float()
    unscaled = _Grid(index, weights, blurs)
    ones = unscaled.smooth(weights.new_ones(len(index), 1, index.shape[2]))
    return replace(unscaled, scale=ones.clamp(min=TINY).rsqrt())


def _outer(combine: Callable[[Tensor, Tensor], Tensor], left: Tensor, right: Tensor) -> Tensor:
    """Combine each corner so far with each of another axis: (image, corner, pixel)."""
    corners = combine(left[:, :, None], right[:, None])
    return corners.reshape(len(corners), -1, corners.shape[-1])
