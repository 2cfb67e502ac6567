"""Regions of label maps: connected pixels of one label, of a whole block and all labels at once.

Rows are cut into runs of one label, and runs that touch become one region. There are some dozen
times fewer runs than pixels, and labels that differ never have to be gone through one by one.

What takes the place of pixels that a step removes.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import cv2
import numpy as np
from jaxtyping import Bool, Int, Integer, Shaped
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from evaluation.core.arrays import argmax
from evaluation.core.classes import UNLABELLED
from evaluation.core.types import Images, Labels, Map
from postproc.batched_filters import stacked
from postproc.step import Step

Connectivity = Literal[1, 2]
Mask = Bool[np.ndarray, "image row col"]
Pairs = Integer[np.ndarray, "two pair"]
Part = tuple[slice, slice, slice]


def present(labels: Labels) -> list[int]:
    """List the labels that occur."""
    found: list[int] = np.flatnonzero(np.bincount(labels.ravel())).tolist()
    return found


@dataclass(frozen=True)
class Regions:
    """The regions of a block, in the order in which rows meet them; none spans two images.

    Args:
        labels: of each region.
        areas: of each, in pixels.
        images: which image each lies in.
        connectivity: 1 joins pixels that share a side, 2 also those that share a corner.
    """

    labels: Integer[np.ndarray, " region"]
    areas: Int[np.ndarray, " region"]
    images: Int[np.ndarray, " region"]
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
        images = first // (labels.shape[1] * labels.shape[2])
        return cls(
            labels.ravel()[first], areas, images, connectivity, labels.shape, lengths, region_of
        )

    def paint(self, values: Shaped[np.ndarray, " region"]) -> Shaped[np.ndarray, "image row col"]:
        """Give each pixel the value of its region."""
        return np.repeat(values[self._region_of], self._lengths).reshape(self._shape)

    def numbers(self) -> Int[np.ndarray, "image row col"]:
        """Return the number of each pixel's region, from 0 on."""
        return self.paint(np.arange(len(self.areas)))

    def at_border(self) -> Bool[np.ndarray, " region"]:
        """Tell which regions touch the border of their image."""
        numbers, touches = self.numbers(), np.zeros(len(self.areas), dtype=bool)
        for edge in (numbers[:, 0], numbers[:, -1], numbers[:, :, 0], numbers[:, :, -1]):
            touches[edge] = True
        return touches

    def neighbours(self) -> Pairs:
        """Return pairs of regions that touch, by `connectivity`; a pair may come several times."""
        numbers = self.numbers()
        flat, found = numbers.ravel(), []
        for shift, one, other in adjacent_views(self._shape, self.connectivity):
            places = paste(one, numbers[one] != numbers[other], self._shape)
            found.append(np.stack([flat[places], flat[places + shift]]))
        return np.concatenate(found, axis=1)


def joined_regions(
    regions: Regions, among: Bool[np.ndarray, " region"], pairs: Pairs
) -> tuple[int, Integer[np.ndarray, " region"]]:
    """Join some of the regions to larger ones; return how many there are, and which is whose."""
    return _joined(pairs[:, among[pairs].all(axis=0)], len(regions.areas))


def adjacent_views(
    shape: tuple[int, ...], connectivity: Connectivity
) -> list[tuple[int, Part, Part]]:
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


def paste(part: Part, mask: Mask, shape: tuple[int, ...]) -> Int[np.ndarray, " place"]:
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
    for shift, above, below in adjacent_views(labels.shape, connectivity)[1:]:
        # Two runs overlap in one stretch; it begins where one of them does, or at the left edge.
        first = begins[above] | begins[below]
        first[:, :, :1] = True
        places = paste(above, (labels[above] == labels[below]) & first, labels.shape)
        found.append(np.stack([run[places], run[places + shift]]))
    return np.concatenate(found, axis=1)


def _joined(pairs: Pairs, count: int) -> tuple[int, Integer[np.ndarray, " node"]]:
    ones = np.ones(pairs.shape[1], dtype=np.int8)
    graph = coo_array((ones, (pairs[0], pairs[1])), shape=(count, count))
    joined: tuple[int, Integer[np.ndarray, " node"]] = connected_components(graph, directed=False)
    return joined


Refill = Literal["neighbour", "majority", "next_best"]
STEPS = 4
CROSS = cv2.getStructuringElement(cv2.MORPH_CROSS, (3, 3))


def remove_regions(find: Callable[[Labels], Mask], refill: Refill, ignore: int | None) -> Step:
    """Build the step that removes pixels and fills what is left open.

    An image of which everything would be removed stays as it is.

    Args:
        find: tells, for label maps, which pixels go.
        refill: `neighbour`: each takes the label of the nearest pixel that stays; `majority`: each
            gap takes the most frequent label beside it; `next_best`: each takes its most probable
            other class, for which the step takes maps.
        ignore: the class that `next_best` never gives, or None.
    """
    if refill == "next_best":

        def relabel(maps: Map, _: Images | None) -> Labels:
            labels = argmax(maps)
            return next_best(maps, labels, find(labels), ignore)

        return Step("maps", "labels", relabel)
    fill = nearest_label if refill == "neighbour" else majority_label
    return Step("labels", "labels", lambda labels, _: fill(labels, find(labels)), again="nothing")


def nearest_label(labels: Labels, missing: Mask) -> Labels:
    """Give missing pixels the label of the nearest other pixel of their image.

    Near by steps along rows and columns; of several equally near, the lowest label. Thus a pixel
    always joins a region that was there. An image of which everything is missing stays as it is.

    Args:
        labels: uint8.
        missing: the pixels whose label does not count.
    """
    result = np.where(missing, np.uint8(UNLABELLED), labels)
    todo = np.flatnonzero(missing.any(axis=(1, 2)) & ~missing.all(axis=(1, 2)))
    while len(todo):
        grown = _grown(result[todo])
        result[todo] = grown
        todo = todo[(grown == UNLABELLED).any(axis=(1, 2))]
    return np.where(result == UNLABELLED, labels, result)


def _grown(labels: Labels) -> Labels:
    """Let labels grow over unlabelled pixels beside them, some steps far."""
    tall = stacked(labels, gap=1, fill=UNLABELLED)
    settled = np.full_like(tall, UNLABELLED)
    flat, fixed = (part.reshape(-1, labels.shape[2]) for part in (tall, settled))
    inside = settled[:, : labels.shape[1]]
    for _ in range(STEPS):
        np.multiply(tall[:, :-1] != UNLABELLED, np.uint8(UNLABELLED), out=inside)
        # Nobody's pixels hold 255, higher than any label, so the lowest neighbour is a minimum.
        found = cv2.erode(flat, CROSS)
        np.minimum(flat, np.maximum(found, fixed, out=found), out=flat)
    return tall[:, :-1]


def majority_label(labels: Labels, missing: Mask) -> Labels:
    """Give each gap of missing pixels the label that most of the other pixels beside it have.

    A gap is made of missing pixels that share sides; beside it is what shares a side with it, once
    for each side. Of several labels as frequent, the lowest. An image of which everything is
    missing stays as it is.
    """
    gaps = Regions.of(missing.view(np.uint8))
    number, (inside, beside) = gaps.numbers().ravel(), _edges(missing)
    gap, label = number[inside], labels.ravel()[beside].astype(np.intp)
    kinds, votes = np.unique(gap * (UNLABELLED + 1) + label, return_counts=True)
    gap, label = np.divmod(kinds, UNLABELLED + 1)
    order = np.lexsort((label, -votes, gap))
    gap, first = np.unique(gap[order], return_index=True)
    winner = np.full(len(gaps.areas), UNLABELLED, dtype=np.uint8)
    winner[gap] = label[order][first]
    filled = gaps.paint(winner)
    return np.where(filled == UNLABELLED, labels, filled)


def _edges(missing: Mask) -> Pairs:
    """Pair missing pixels, by their places, with others that share a side with them."""
    found = []
    for shift, first, second in adjacent_views(missing.shape, connectivity=1):
        for inside, other, step in ((first, second, shift), (second, first, -shift)):
            places = paste(inside, missing[inside] & ~missing[other], missing.shape)
            found.append(np.stack([places, places + step]))
    return np.concatenate(found, axis=1)


def next_best(maps: Map, labels: Labels, missing: Mask, ignore: int | None) -> Labels:
    """Give missing pixels their most probable class other than their own and the ignored one.

    Where no such class has a chance, the nearest label. An image of which everything is missing
    stays as it is.
    """
    missing = missing & ~missing.all(axis=(1, 2), keepdims=True)
    image, row, col = np.nonzero(missing)
    scores = maps[image, :, row, col]
    np.put_along_axis(scores, labels[missing][:, None].astype(np.intp), 0, axis=1)
    if ignore is not None:
        scores[:, ignore] = 0
    found = labels.copy()
    found[missing] = argmax(scores)
    missing[missing] = scores.max(axis=1) == 0
    return nearest_label(found, missing)
