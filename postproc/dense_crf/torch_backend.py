"""The grey grid of `compiled` in torch: a block of images at once, for a GPU."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from evaluation.core.types import Array, Images, Map
from members.devices import devices
from postproc.dense_crf import grid
from postproc.dense_crf.grid import Quality
from postproc.dense_crf.model import Kernel, Model

# An image's index or weight is repeated over its classes, and one for all over the images.
Index = Int[Tensor, "repeated corner pixel"]
Weight = Float[Tensor, "repeated corner pixel"]
Flat = Float[Tensor, "image _ pixel"]
TINY = 1e-20


def infer(maps: Map, greys: Images | None, model: Model, quality: Quality) -> Map:
    """Return the mean-field maps of a block of grey images, all iterations, in float32.

    It runs on the first GPU that torch sees, else on the processor, where `compiled` is faster.

    Args:
        maps: (image, class, row, col).
        greys: uint8 (image, 1, row, col); None where no kernel looks at colour.
        model: the field.
        quality: how narrow the cells of the grid are.
    """
    device = devices("auto")[0]
    with torch.inference_mode():
        logs = torch.tensor(maps, device=device).flatten(2).clamp(min=model.floor).log()
        grids = [_grid(kernel, maps, greys, quality, device) for kernel in model.kernels]
        costs = [torch.tensor(kernel.costs, device=device) for kernel in model.kernels]
        q = logs.softmax(1)
        for _ in range(model.iterations):
            scores = logs
            for between, cost in zip(grids, costs, strict=True):
                scores = scores - cost @ (between.smooth(q * between.scale) * between.scale)
            q = scores.softmax(1)
        found: Map = q.reshape(maps.shape).cpu().numpy()
        return found


@dataclass(frozen=True)
class _Grid:
    """Cells of images, or the same for all of them.

    Args:
        index: cells that each pixel lies between.
        weight: and how near to each.
        blurs: along each axis, what a cell gives another.
        scale: of pixels: 1 / sqrt(K 1).
    """

    index: Index
    weight: Weight
    blurs: tuple[Float[Tensor, "_ _"], ...]
    scale: Float[Tensor, "repeated 1 pixel"] | float = 1.0

    def smooth(self, q: Flat) -> Flat:
        """Spread over the cells, blur, and read back."""
        counts = [len(blur) for blur in self.blurs]
        cells = q.new_zeros(*q.shape[:2], int(np.prod(counts)))
        corners = [
            (index[:, None].expand(*q.shape), weight[:, None])
            for index, weight in zip(self.index.unbind(1), self.weight.unbind(1), strict=True)
        ]
        for index, weight in corners:
            cells.scatter_add_(2, index, q * weight)
        cells = cells.reshape(*q.shape[:2], *counts)
        for place, blur in enumerate(self.blurs, start=2):
            cells = torch.tensordot(cells, blur, ([place], [0])).movedim(-1, place)
        cells = cells.flatten(2)
        return sum((cells.gather(2, index) * weight for index, weight in corners), q.new_zeros(()))


def _grid(kernel: Kernel, maps: Map, greys: Images | None, quality: Quality, device: str) -> _Grid:
    place, level = grid.axes(kernel, quality)
    axes = [(place, each) for each in np.indices(maps.shape[2:]).reshape(2, 1, -1)]
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
    bare = _Grid(torch.tensor(index, device=device), weights, blurs)
    ones = bare.smooth(weights.new_ones(len(index), 1, index.shape[2]))
    return _Grid(bare.index, weights, blurs, ones.clamp(min=TINY).rsqrt())


def _outer(combine: Callable[[Array, Array], Array], left: Array, right: Array) -> Array:
    """Combine each corner so far with each of another axis: (image, corner, pixel)."""
    found = combine(left[:, :, None], right[:, None])
    return found.reshape(len(found), -1, found.shape[-1])
