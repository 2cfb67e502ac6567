"""The bilateral grid: axes of cells for position and grey level, and a lattice for colours.

A value (a position in pixels, a grey level) is interpolated linearly between two cells, cells are
blurred, and values are read back by the same interpolation. Cells are a whole number of pixels or
levels wide, so the same weights serve every cell.

Colours lie in tetrahedra of the permutohedral lattice in three dimensions. A value is spread over
the four vertices around its colour, vertices are blurred over their neighbours, and values are read
back by the same weights. A vertex has integer coordinates that sum to 0; a step is the difference
of two vertices.

References:
    Adams, Baek and Davis, "Fast High-Dimensional Filtering Using the Permutohedral Lattice",
    Eurographics 2010.
"""

import functools
import itertools
import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Float, Int
from scipy import optimize

from evaluation.core.types import Array
from postproc.dense_crf.model import RGB, Kernel

Quality = Literal["default", "high"]
Floats = Float[np.ndarray, "value"]

REACH = 2.5  # of the blur along an axis, in standard deviations
MAX_TAPS = 8
MAX_SAMPLES = 32  # per cell, when its taps are fitted


@dataclass(frozen=True)
class CellWidth:
    """Width of the cells of an axis.

    Args:
        deviations: in standard deviations of the Gaussian.
        min_step: in pixels or grey levels, but no more than one standard deviation: narrower cells
            cost more time than they give precision.
    """

    deviations: float
    min_step: int = 1


# Position alone; position with grey levels; grey levels.
WIDTHS: dict[Quality, tuple[CellWidth, CellWidth, CellWidth]] = {
    "default": (CellWidth(1.0), CellWidth(2 / 3, min_step=5), CellWidth(1.0, min_step=3)),
    "high": (CellWidth(2 / 3), CellWidth(1 / 2, min_step=3), CellWidth(1 / 2, min_step=2)),
}
POSITION_WITH_COLOUR: dict[Quality, CellWidth] = {
    "default": CellWidth(0.8),
    "high": CellWidth(2 / 3),
}


@dataclass(frozen=True)
class Axis:
    """Cells along one axis of the grid, and the blur between them.

    Args:
        step: width of a cell, in pixels or grey levels.
        taps: weight of a cell by its distance in cells, from 0; symmetric.
    """

    step: int
    taps: Floats

    def cells(self, length: int) -> int:
        """Return the number of cells that values from 0 to `length - 1` need."""
        return (length - 1) // self.step + 2

    def matrix(self, cells: int) -> Float[np.ndarray, "cell other"]:
        """Return the blur as a matrix."""
        apart = np.abs(np.arange(cells)[:, None] - np.arange(cells))
        reach = len(self.taps) - 1
        return np.where(apart <= reach, self.taps[np.minimum(apart, reach)], 0)

    def scales(self, length: int) -> Floats:
        """Return 1 / sqrt(K 1) at values 0 to length - 1: symmetric normalisation."""
        value = np.arange(length)
        cell, share = value // self.step, value % self.step / self.step
        cells = self.cells(length)
        ones = np.bincount(cell, 1 - share, cells) + np.bincount(cell + 1, share, cells)
        reach = len(self.taps) - 1
        blurred = np.convolve(ones, [*self.taps[:0:-1], *self.taps])[reach : reach + cells]
        received = blurred[cell] * (1 - share) + blurred[cell + 1] * share
        scales: Floats = 1 / np.sqrt(received)
        return scales


def axes(kernel: Kernel, quality: Quality) -> tuple[Axis, Axis | None]:
    """Return the axis of positions (rows and columns alike) and that of grey levels, if any.

    The three channels of a grey image are equal, so a difference of d levels is one of sqrt(3) d
    in colour: along grey levels the kernel's standard deviation is srgb / sqrt(3).
    """
    alone, position, level = WIDTHS[quality]
    if kernel.srgb is None:
        return _axis(kernel.sxy, alone), None
    return _axis(kernel.sxy, position), _axis(kernel.srgb / math.sqrt(RGB), level)


def position_axis_with_colour(kernel: Kernel, quality: Quality) -> Axis:
    """Return the axis of positions of a kernel on position and three colours."""
    return _axis(kernel.sxy, POSITION_WITH_COLOUR[quality])


BLOCKS_PER_DEVIATION: dict[Quality, float] = {"default": 5.0, "high": 6.0}


def block_width(kernel: Kernel, quality: Quality) -> int:
    """Return the width of the blocks whose pixels count as at one place, in pixels."""
    return max(1, int(kernel.sxy / BLOCKS_PER_DEVIATION[quality]))


@functools.cache
def _axis(sigma: float, width: CellWidth) -> Axis:
    step = max(1, min(width.min_step, round(sigma)), round(sigma * width.deviations))
    scale = max(1, step / MAX_SAMPLES)
    return Axis(step, _axis_taps(float(sigma / scale), round(step / scale)))


def _axis_taps(sigma: float, step: int) -> Floats:
    """Fit the blur that, with interpolation before and after it, approximates the Gaussian.

    Interpolation alone adds about 1/3 cell^2 of variance. These are the non-negative taps of the
    least squared error over all positions within a cell.
    """
    reach = min(MAX_TAPS, max(1, int(np.ceil(REACH * sigma / step))))
    start = np.arange(step)[:, None]
    distance = np.arange((reach + 1) * step + 1)
    design = np.zeros((step, len(distance), reach + 1))
    near, far = start % step / step, (start + distance) % step / step
    for side, weight in (
        (0, (1 - near) * (1 - far)),
        (1, (1 - near) * far),
        (-1, near * (1 - far)),
        (0, near * far),
    ):
        apart = np.abs((start + distance) // step + side)
        for tap in range(reach + 1):
            design[..., tap] += np.where(apart == tap, weight, 0)
    target = np.broadcast_to(np.exp(-((distance / sigma) ** 2) / 2), design.shape[:2])
    # Not negative: a colour that few pixels have would otherwise receive a negative sum.
    taps: Floats = optimize.nnls(design.reshape(-1, reach + 1), target.ravel())[0]
    return taps


Colours = Float[np.ndarray, "colour 3"]
Vertices = Int[np.ndarray, "colour corner 4"]
Weights = Float[np.ndarray, "colour corner"]
Taps = Float[np.ndarray, "tap"]
Steps = Int[np.ndarray, "tap 4"]

# The shortest edge of the lattice, in standard deviations.
EDGES: dict[Quality, float] = {"default": 1.1, "high": 1.0}
SHORTEST = math.sqrt(12)  # edge, in the lattice's coordinates
UNIT = 4  # squares of distances are multiples of it
LATTICE_REACH: dict[Quality, float] = {"default": 2.6, "high": 2.6}  # of the blur, in deviations
SAMPLES, MAX_DISTANCE, SEED = 6000, 3.0, 0


@dataclass(frozen=True)
class Lattice:
    """The lattice of colours, and the blur between its vertices.

    Args:
        scale: of the lattice's coordinates, per grey level.
        steps: from a vertex to those that it receives from, itself included.
        taps: their weights.
    """

    scale: float
    steps: Steps
    taps: Taps


@functools.cache
def lattice(srgb: float, quality: Quality) -> Lattice:
    """Return the lattice for a Gaussian of `srgb` grey levels."""
    edge = EDGES[quality]
    squares = _lattice_taps(edge, LATTICE_REACH[quality])
    limit = math.isqrt(UNIT * len(squares)) + 1
    values = range(-limit, limit + 1)
    steps = np.array([(*s, -sum(s)) for s in itertools.product(values, repeat=3)])
    # All coordinates of a vertex are congruent modulo 4.
    steps = steps[((steps - steps[:, :1]) % 4 == 0).all(axis=1)]
    square = (steps**2).sum(axis=1) // UNIT
    taps = np.where(square < len(squares), squares[np.minimum(square, len(squares) - 1)], 0)
    return Lattice(SHORTEST / edge / srgb, steps[taps > 0], taps[taps > 0])


def simplices(colours: Colours, scale: float) -> tuple[Vertices, Weights]:
    """Return the four vertices around each colour, and its barycentric weights."""
    a, b, c = (colours * scale / np.sqrt([2, 6, 12])).T
    position = np.stack([c + b + a, c + b - a, c - 2 * b, -3 * c], axis=1)
    whole = np.floor(position / 4 + 0.5).astype(np.intp)
    order = np.argsort(4 * whole - position, axis=1, kind="stable")
    rank = np.argsort(order, axis=1) + whole.sum(axis=1, keepdims=True)
    turn = 4 * (rank < 0) - 4 * (rank > 3)
    base, rank = 4 * whole + turn, rank + turn
    share = np.take_along_axis((position - base) / 4, np.argsort(rank, axis=1), axis=1)
    weights = np.concatenate([share[:, 3:] - share[:, :1] + 1, -np.diff(share)[:, ::-1]], axis=1)
    corner = np.arange(4)[:, None]
    return base[:, None] + np.where(rank[:, None] <= 3 - corner, corner, corner - 4), weights


def _lattice_taps(edge: float, reach: float) -> Taps:
    """Fit the blur between vertices, by squares of their distance in units; see `_axis_taps`.

    Fitted over random pairs of colours at all distances, far ones with more weight.
    """
    rng = np.random.default_rng(SEED)
    scale = SHORTEST / edge
    start = rng.uniform(-MAX_DISTANCE, MAX_DISTANCE, (SAMPLES, 3))
    offset = rng.normal(size=(SAMPLES, 3))
    distance = rng.uniform(0, MAX_DISTANCE, (SAMPLES, 1))
    offset *= distance / np.linalg.norm(offset, axis=1, keepdims=True)
    (near, first), (far, second) = (simplices(each, scale) for each in (start, start + offset))
    squares = ((near[:, :, None] - far[:, None]) ** 2).sum(axis=-1) // UNIT
    weights = first[:, :, None] * second[:, None]
    count = int((reach * scale) ** 2 / UNIT) + 1
    flat = np.arange(SAMPLES)[:, None, None] * count + squares
    inside = squares < count
    design = np.bincount(flat[inside], weights[inside], SAMPLES * count).reshape(SAMPLES, count)
    importance = np.sqrt(distance + 0.2)
    target = np.exp(-(distance**2) / 2) * importance
    taps: Array = optimize.nnls(design * importance, target.ravel())[0]
    return taps
