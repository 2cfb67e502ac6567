"""Axes of the bilateral grid: where its cells lie, and how to blur between them.

A value (a place in pixels, a grey level) spreads over the two cells beside it by linear
interpolation, cells are blurred, and values are read back by the same interpolation. Cells are a
whole number of pixels or levels wide, so one stretch of weights serves every cell.

The lattice of colours: its simplices, and how to blur between its vertices.

Colours lie in tetrahedra of the permutohedral lattice in three dimensions. A value spreads over the
four vertices around its colour, vertices send to those near them, and values are read back by the
same weights. A vertex has integer coordinates that sum to 0; a step is the difference of two.

Source: Adams, Baek and Davis, "Fast High-Dimensional Filtering Using the Permutohedral Lattice",
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
from postproc.dense_crf.model import Kernel

Quality = Literal["default", "high"]
Floats = Float[np.ndarray, "value"]

RGB = 3
REACH = 2.5  # of the blur, in standard deviations
MOST_TAPS = 8
SAMPLED = 32  # a wider cell is looked at in so many steps


@dataclass(frozen=True)
class Width:
    """How wide cells are.

    Args:
        deviations: in standard deviations of the Gaussian.
        least: in pixels or grey levels, but no more than one standard deviation: below that, cells
            cost more time than they give precision.
    """

    deviations: float
    least: int = 1


# Place where colour plays no part; place beside grey levels; grey levels.
WIDTHS: dict[Quality, tuple[Width, Width, Width]] = {
    "default": (Width(1.0), Width(2 / 3, least=5), Width(1.0, least=3)),
    "high": (Width(2 / 3), Width(1 / 2, least=3), Width(1 / 2, least=2)),
}
# Place beside the lattice of colours.
BESIDE_COLOURS: dict[Quality, Width] = {"default": Width(0.8), "high": Width(2 / 3)}


@dataclass(frozen=True)
class Axis:
    """Cells along one axis of the grid, and the blur between them.

    Args:
        step: width of a cell, in pixels or grey levels.
        taps: weight of a cell by its distance in cells, from 0; the same to both sides.
    """

    step: int
    taps: Floats

    def cells(self, length: int) -> int:
        """Return how many cells values from 0 to `length - 1` touch."""
        return (length - 1) // self.step + 2

    def matrix(self, cells: int) -> Float[np.ndarray, "cell other"]:
        """Return the blur: what a cell gives another."""
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
    """Return the axis of places (rows and columns alike) and that of grey levels, if any.

    Of a grey image the three channels are equal, so a difference of d levels is one of
    sqrt(3) d in colour: along grey levels the kernel's deviation is srgb / sqrt(3).
    """
    alone, place, level = WIDTHS[quality]
    if kernel.srgb is None:
        return _axis(kernel.sxy, alone), None
    return _axis(kernel.sxy, place), _axis(kernel.srgb / math.sqrt(RGB), level)


def place_beside_colours(kernel: Kernel, quality: Quality) -> Axis:
    """Return the axis of places of a kernel on place and three colours."""
    return _axis(kernel.sxy, BESIDE_COLOURS[quality])


@functools.cache
def _axis(sigma: float, width: Width) -> Axis:
    least = min(width.least, round(sigma))
    step = max(1, least, round(sigma * width.deviations))
    scale = max(1, step / SAMPLED)
    return Axis(step, _taps(float(sigma / scale), round(step / scale)))


def _taps(sigma: float, step: int) -> Floats:
    """Find the blur that makes up for interpolating twice.

    Interpolation alone adds about 1/3 cell^2 of variance. These are the taps whose result lies
    nearest to the Gaussian in the sense of least squares, over all places within a cell.
    """
    reach = min(MOST_TAPS, max(1, int(np.ceil(REACH * sigma / step))))
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
    # None is negative: a colour that few pixels have would else receive less than nothing.
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
LATTICE_REACH = 2.6  # of the blur, in standard deviations
SAMPLES, FARTHEST, SEED = 6000, 3.0, 0


@dataclass(frozen=True)
class Lattice:
    """Vertices among colours, and the blur between them.

    Args:
        scale: of the lattice's coordinates, per grey level.
        steps: from a vertex to all those that it receives from, itself too.
        taps: their weights.
    """

    scale: float
    steps: Steps
    taps: Taps


@functools.cache
def lattice(srgb: float, quality: Quality) -> Lattice:
    """Return the lattice for a Gaussian of `srgb` grey levels."""
    edge = EDGES[quality]
    squares = _taps_lattice(edge)
    most = math.isqrt(UNIT * len(squares)) + 1
    some = range(-most, most + 1)
    steps = np.array([(*s, -sum(s)) for s in itertools.product(some, repeat=3)])
    # Vertices leave the same remainder by 4 in all coordinates.
    steps = steps[((steps - steps[:, :1]) % 4 == 0).all(axis=1)]
    square = (steps**2).sum(axis=1) // UNIT
    taps = np.where(square < len(squares), squares[np.minimum(square, len(squares) - 1)], 0)
    return Lattice(SHORTEST / edge / srgb, steps[taps > 0], taps[taps > 0])


def simplices(colours: Colours, scale: float) -> tuple[Vertices, Weights]:
    """Return the four vertices around each colour, and its barycentric weights."""
    a, b, c = (colours * scale / np.sqrt([2, 6, 12])).T
    at = np.stack([c + b + a, c + b - a, c - 2 * b, -3 * c], axis=1)
    whole = np.floor(at / 4 + 0.5).astype(np.intp)
    order = np.argsort(4 * whole - at, axis=1, kind="stable")
    rank = np.argsort(order, axis=1) + whole.sum(axis=1, keepdims=True)
    turn = 4 * (rank < 0) - 4 * (rank > 3)
    base, rank = 4 * whole + turn, rank + turn
    share = np.take_along_axis((at - base) / 4, np.argsort(rank, axis=1), axis=1)
    weights = np.concatenate([share[:, 3:] - share[:, :1] + 1, -np.diff(share)[:, ::-1]], axis=1)
    corner = np.arange(4)[:, None]
    return base[:, None] + np.where(rank[:, None] <= 3 - corner, corner, corner - 4), weights


def _taps_lattice(edge: float) -> Taps:
    """Find the blur that makes up for interpolating twice, by squares of distances in units.

    These are the taps, none negative, whose result lies nearest to the Gaussian in the sense of
    least squares, over pairs of colours drawn at all distances, far ones with more weight.
    """
    rng = np.random.default_rng(SEED)
    scale = SHORTEST / edge
    place, apart = rng.uniform(-FARTHEST, FARTHEST, (SAMPLES, 3)), rng.normal(size=(SAMPLES, 3))
    distance = rng.uniform(0, FARTHEST, (SAMPLES, 1))
    apart *= distance / np.linalg.norm(apart, axis=1, keepdims=True)
    (near, some), (far, others) = (simplices(each, scale) for each in (place, place + apart))
    squares = ((near[:, :, None] - far[:, None]) ** 2).sum(axis=-1) // UNIT
    weights = some[:, :, None] * others[:, None]
    count = int((LATTICE_REACH * scale) ** 2 / UNIT) + 1
    flat = np.arange(SAMPLES)[:, None, None] * count + squares
    inside = squares < count
    design = np.bincount(flat[inside], weights[inside], SAMPLES * count).reshape(SAMPLES, count)
    importance = np.sqrt(distance + 0.2)
    target = np.exp(-(distance**2) / 2) * importance
    taps: Array = optimize.nnls(design * importance, target.ravel())[0]
    return taps
