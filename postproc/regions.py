"""Regions of label maps: connected pixels of one label, of a whole block and all labels at once.

Rows are cut into runs of one label, and runs that touch become one region. There are some dozen
times fewer runs than pixels, and labels that differ never have to be gone through one by one.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Bool, Int, Integer, Shaped
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from evaluation.ground.arrays import Labels

Connectivity = Literal[1, 2]
Mask = Bool[np.ndarray, "picture row col"]
Pairs = Integer[np.ndarray, "two pair"]
Part = tuple[slice, slice, slice]


def present(labels: Labels) -> list[int]:
    """List the labels that occur."""
    found: list[int] = np.flatnonzero(np.bincount(labels.ravel())).tolist()
    return found


@dataclass(frozen=True)
class Regions:
    """The regions of a block, in the order in which rows meet them; none spans two pictures.

    Args:
        labels: of each region.
        areas: of each, in pixels.
        pictures: which picture each lies in.
        connectivity: 1 joins pixels that share a side, 2 also those that share a corner.
    """

    labels: Integer[np.ndarray, " region"]
    areas: Int[np.ndarray, " region"]
    pictures: Int[np.ndarray, " region"]
    connectivity: Connectivity
    _shape: tuple[int, ...]
    _lengths: Int[np.ndarray, " run"]
    _region_of: Integer[np.ndarray, " run"]

    @classmethod
    def of(cls, labels: Labels, *, connectivity: Connectivity = 1) -> "Regions":
        """Find the regions of a block of label maps."""
        begins = np.ones(labels.shape, dtype=bool)
        np.not_equal(labels[:, :, 1:], labels[:, :, :-1], out=begins[:, :, 1:])
        starts = np.flatnonzero(begins)
        lengths = np.diff(starts, append=labels.size)
        count, region_of = _joined(_touching(labels, begins, lengths, connectivity), len(starts))
        first = np.full(count, labels.size)
        np.minimum.at(first, region_of, starts)
        areas = np.bincount(region_of, weights=lengths, minlength=count).astype(np.intp)
        pictures = first // (labels.shape[1] * labels.shape[2])
        return cls(
            labels.ravel()[first], areas, pictures, connectivity, labels.shape, lengths, region_of
        )

    def paint(self, values: Shaped[np.ndarray, " region"]) -> Shaped[np.ndarray, "picture row col"]:
        """Give each pixel the value of its region."""
        return np.repeat(values[self._region_of], self._lengths).reshape(self._shape)

    def numbers(self) -> Int[np.ndarray, "picture row col"]:
        """Return the number of each pixel's region, from 0 on."""
        return self.paint(np.arange(len(self.areas)))

    def at_border(self) -> Bool[np.ndarray, " region"]:
        """Tell which regions touch the border of their picture."""
        numbers, touches = self.numbers(), np.zeros(len(self.areas), dtype=bool)
        for edge in (numbers[:, 0], numbers[:, -1], numbers[:, :, 0], numbers[:, :, -1]):
            touches[edge] = True
        return touches

    def neighbours(self) -> Pairs:
        """Return pairs of regions that touch, by `connectivity`; a pair may come several times."""
        numbers = self.numbers()
        flat, found = numbers.ravel(), []
        for shift, one, other in sides(self._shape, self.connectivity):
            places = placed(one, numbers[one] != numbers[other], self._shape)
            found.append(np.stack([flat[places], flat[places + shift]]))
        return np.concatenate(found, axis=1)


def joined_regions(
    regions: Regions, among: Bool[np.ndarray, " region"], pairs: Pairs
) -> tuple[int, Integer[np.ndarray, " region"]]:
    """Join some of the regions to larger ones; return how many there are, and which is whose."""
    return _joined(pairs[:, among[pairs].all(axis=0)], len(regions.areas))


def sides(shape: tuple[int, ...], connectivity: Connectivity) -> list[tuple[int, Part, Part]]:
    """Return where pixels are and where others that they touch, and how far these are.

    Each pair of pixels comes once; the first are those beside each other in a row.
    """
    cols = shape[2]
    every, up, down = slice(None), slice(None, -1), slice(1, None)
    found = [
        (1, (every, every, up), (every, every, down)),
        (cols, (every, up, every), (every, down, every)),
        (cols + 1, (every, up, up), (every, down, down)),
        (cols - 1, (every, up, down), (every, down, up)),
    ]
    return found[: 2 * connectivity]


def placed(part: Part, mask: Mask, shape: tuple[int, ...]) -> Int[np.ndarray, " place"]:
    """Return the places, in the flat block, of what a mask of a part of it marks."""
    whole = np.zeros(shape, dtype=bool)
    whole[part] = mask
    return np.flatnonzero(whole)


def _touching(
    labels: Labels, begins: Mask, lengths: Int[np.ndarray, " run"], connectivity: Connectivity
) -> Pairs:
    """Pair runs of one label that touch in two neighbouring rows."""
    run = np.repeat(np.arange(len(lengths), dtype=np.int32), lengths)
    found = []
    for shift, above, below in sides(labels.shape, connectivity)[1:]:
        # Two runs overlap in one stretch; it begins where one of them does, or at the left edge.
        first = begins[above] | begins[below]
        first[:, :, :1] = True
        places = placed(above, (labels[above] == labels[below]) & first, labels.shape)
        found.append(np.stack([run[places], run[places + shift]]))
    return np.concatenate(found, axis=1)


def _joined(pairs: Pairs, count: int) -> tuple[int, Integer[np.ndarray, " node"]]:
    ones = np.ones(pairs.shape[1], dtype=np.int8)
    graph = coo_array((ones, (pairs[0], pairs[1])), shape=(count, count))
    joined: tuple[int, Integer[np.ndarray, " node"]] = connected_components(graph, directed=False)
    return joined
