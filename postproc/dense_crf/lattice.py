"""The lattice of colours: its simplices, and how to blur between its vertices.

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

import numpy as np
from jaxtyping import Float, Int
from scipy import optimize

from evaluation.ground.arrays import Array
from postproc.dense_crf.grid import Quality

Colours = Float[np.ndarray, "colour 3"]
Vertices = Int[np.ndarray, "colour corner 4"]
Weights = Float[np.ndarray, "colour corner"]
Taps = Float[np.ndarray, "tap"]
Steps = Int[np.ndarray, "tap 4"]

# The shortest edge of the lattice, in standard deviations.
EDGES: dict[Quality, float] = {"default": 1.1, "high": 1.0}
SHORTEST = math.sqrt(12)  # edge, in the lattice's coordinates
UNIT = 4  # squares of distances are multiples of it
REACH = 2.6  # of the blur, in standard deviations
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
    squares = _taps(edge)
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


def _taps(edge: float) -> Taps:
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
    count = int((REACH * scale) ** 2 / UNIT) + 1
    flat = np.arange(SAMPLES)[:, None, None] * count + squares
    inside = squares < count
    design = np.bincount(flat[inside], weights[inside], SAMPLES * count).reshape(SAMPLES, count)
    importance = np.sqrt(distance + 0.2)
    target = np.exp(-(distance**2) / 2) * importance
    taps: Array = optimize.nnls(design * importance, target.ravel())[0]
    return taps
