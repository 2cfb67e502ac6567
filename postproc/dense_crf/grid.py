"""Axes of the bilateral grid: where its cells lie, and how to blur between them.

A value (a place in pixels, a grey level) spreads over the two cells beside it by linear
interpolation, cells are blurred, and values are read back by the same interpolation. Cells are a
whole number of pixels or levels wide, so one stretch of weights serves every cell.
"""

import functools
import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Float
from scipy import optimize

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

    Of a grey picture the three channels are equal, so a difference of d levels is one of
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
