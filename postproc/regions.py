"""Connected regions of label maps, for a whole block and all labels at once, and their removal.

Rows are cut into runs of one label, and runs that touch become one region. There are some dozen
times fewer runs than pixels, and labels need not be processed one by one.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Literal

import cv2
import numpy as np
from jaxtyping import Bool, Int, Integer, Shaped
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from evaluation.core.arrays import argmax
from evaluation.core.classes import UNLABELLED
from evaluation.core.types import Images, Labels, Map
from postproc.batched_filters import stack_images
from postproc.step import Step

GROW_STEPS = 4
CROSS = cv2.getStructuringElement(cv2.MORPH_CROSS, (3, 3))

Connectivity = Literal[1, 2]
Refill = Literal["neighbour", "majority", "next_best", "background"]
Mask = Bool[np.ndarray, "image row col"]
Pairs = Integer[np.ndarray, "two pair"]
View = tuple[slice, slice, slice]


@dataclass(frozen=True)
class Regions:
    """The regions of a block in scan order; none spans two images.

    Args:
        labels: label of each region.
        areas: area of each region, in pixels.
        images: index of the image that each region lies in.
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
        pairs = _touching_runs(labels, begins, lengths, connectivity)
        count, region_of = _components(pairs, len(starts))
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
        """Return the index of each pixel's region."""
        return self.paint(np.arange(len(self.areas)))

    def at_border(self) -> Bool[np.ndarray, " region"]:
        """Mark the regions that touch the border of their image."""
        numbers, touches = self.numbers(), np.zeros(len(self.areas), dtype=bool)
        for edge in (numbers[:, 0], numbers[:, -1], numbers[:, :, 0], numbers[:, :, -1]):
            touches[edge] = True
        return touches

    def neighbours(self) -> Pairs:
        """Return pairs of regions that touch, by `connectivity`; a pair may occur repeatedly."""
        numbers = self.numbers()
        flat, pairs = numbers.ravel(), []
        for shift, view, shifted in adjacent_views(self._shape, self.connectivity):
            indices = paste(view, numbers[view] != numbers[shifted], self._shape)
            pairs.append(np.stack([flat[indices], flat[indices + shift]]))
        return np.concatenate(pairs, axis=1)


def join_regions(
    regions: Regions, chosen: Bool[np.ndarray, " region"], pairs: Pairs
) -> tuple[int, Integer[np.ndarray, " region"]]:
    """Join chosen regions that touch; return how many remain, and each region's new index."""
    return _components(pairs[:, chosen[pairs].all(axis=0)], len(regions.areas))


def present_labels(labels: Labels) -> list[int]:
    """List the labels that occur."""
    occurring: list[int] = np.flatnonzero(np.bincount(labels.ravel())).tolist()
    return occurring


def adjacent_views(
    shape: tuple[int, ...], connectivity: Connectivity
) -> list[tuple[int, View, View]]:
    """Return (offset in the flat block, view, view of the adjacent pixels) per direction.

    Each pair of pixels occurs once; the first direction is along rows.
    """
    cols = shape[2]
    every, up, down = slice(None), slice(None, -1), slice(1, None)
    views = [
        (1, (every, every, up), (every, every, down)),
        (cols, (every, up, every), (every, down, every)),
        (cols + 1, (every, up, up), (every, down, down)),
        (cols - 1, (every, up, down), (every, down, up)),
    ]
    return views[: 2 * connectivity]


def paste(view: View, mask: Mask, shape: tuple[int, ...]) -> Int[np.ndarray, " index"]:
    """Return the indices, in the flat block, of the pixels that a mask of a view marks."""
    whole = np.zeros(shape, dtype=bool)
    whole[view] = mask
    return np.flatnonzero(whole)


def remove_regions(
    find: Callable[[Labels], Mask], refill: Refill, ignore: int | None, background: int | None
) -> Step:
    """Build the step that removes pixels and fills the gaps.

    An image of which every pixel would be removed is left unchanged, but by `background`.

    Args:
        find: marks the pixels to remove, given label maps.
        refill: `neighbour`: each takes the label of the nearest remaining pixel; `majority`: each
            gap takes the most frequent label adjacent to it; `next_best`: each takes its most
            probable other class, for which the step needs maps; `background`: each takes that
            class.
        ignore: the class that `next_best` never assigns, or None.
        background: the class that `background` assigns.
    """
    if refill == "next_best":

        def relabel(maps: Map, _: Images | None) -> Labels:
            labels = argmax(maps)
            return fill_with_next_best(maps, labels, find(labels), ignore)

        return Step("maps", "labels", relabel)
    fill: Callable[[Labels, Mask], Labels]
    fill = fill_with_nearest if refill == "neighbour" else fill_with_majority
    if refill == "background":
        assert background is not None
        fill = partial(_fill_with, np.uint8(background))
    return Step(
        "labels", "labels", lambda labels, _: fill(labels, find(labels)), when_repeated="redundant"
    )


def _fill_with(label: np.uint8, labels: Labels, missing: Mask) -> Labels:
    return np.where(missing, label, labels)


def fill_with_nearest(labels: Labels, missing: Mask) -> Labels:
    """Give missing pixels the label of the nearest other pixel of their image.

    Distance is counted in steps along rows and columns; ties go to the lowest label. So a pixel
    always joins an existing region. An image without any other pixel is left unchanged.

    Args:
        labels: uint8.
        missing: pixels whose label does not count.
    """
    result = np.where(missing, np.uint8(UNLABELLED), labels)
    todo = np.flatnonzero(missing.any(axis=(1, 2)) & ~missing.all(axis=(1, 2)))
    while len(todo):
        grown = _grow(result[todo])
        result[todo] = grown
        todo = todo[(grown == UNLABELLED).any(axis=(1, 2))]
    return np.where(result == UNLABELLED, labels, result)


def fill_with_majority(labels: Labels, missing: Mask) -> Labels:
    """Give each gap of missing pixels the most frequent label of the adjacent pixels.

    A gap consists of missing pixels that share sides; a pixel adjacent to it counts once per
    shared side; ties go to the lowest label. An image without any other pixel is left unchanged.
    """
    gaps = Regions.of(missing.view(np.uint8))
    number, (inside, adjacent) = gaps.numbers().ravel(), _gap_edges(missing)
    gap, label = number[inside], labels.ravel()[adjacent].astype(np.intp)
    kinds, votes = np.unique(gap * (UNLABELLED + 1) + label, return_counts=True)
    gap, label = np.divmod(kinds, UNLABELLED + 1)
    order = np.lexsort((label, -votes, gap))
    gap, first = np.unique(gap[order], return_index=True)
    winner = np.full(len(gaps.areas), UNLABELLED, dtype=np.uint8)
    winner[gap] = label[order][first]
    filled = gaps.paint(winner)
    return np.where(filled == UNLABELLED, labels, filled)


def fill_with_next_best(maps: Map, labels: Labels, missing: Mask, ignore: int | None) -> Labels:
    """Give missing pixels their most probable class other than their own and the ignored one.

    Where all other classes have probability 0, the nearest label. An image of which every pixel is
    missing is left unchanged.
    """
    missing = missing & ~missing.all(axis=(1, 2), keepdims=True)
    image, row, col = np.nonzero(missing)
    scores = maps[image, :, row, col]
    np.put_along_axis(scores, labels[missing][:, None].astype(np.intp), 0, axis=1)
    if ignore is not None:
        scores[:, ignore] = 0
    result = labels.copy()
    result[missing] = argmax(scores)
    missing[missing] = scores.max(axis=1) == 0
    return fill_with_nearest(result, missing)


def _touching_runs(
    labels: Labels, begins: Mask, lengths: Int[np.ndarray, " run"], connectivity: Connectivity
) -> Pairs:
    """Pair runs of one label that touch in two adjacent rows."""
    run = np.repeat(np.arange(len(lengths), dtype=np.int32), lengths)
    pairs = []
    for shift, above, below in adjacent_views(labels.shape, connectivity)[1:]:
        # Two runs overlap in one stretch; it begins where one of them does, or at the left edge.
        first = begins[above] | begins[below]
        first[:, :, :1] = True
        indices = paste(above, (labels[above] == labels[below]) & first, labels.shape)
        pairs.append(np.stack([run[indices], run[indices + shift]]))
    return np.concatenate(pairs, axis=1)


def _components(pairs: Pairs, count: int) -> tuple[int, Integer[np.ndarray, " node"]]:
    ones = np.ones(pairs.shape[1], dtype=np.int8)
    graph = coo_array((ones, (pairs[0], pairs[1])), shape=(count, count))
    components: tuple[int, Integer[np.ndarray, " node"]] = connected_components(
        graph, directed=False
    )
    return components


def _grow(labels: Labels) -> Labels:
    """Let labels grow over adjacent unlabelled pixels by a few steps."""
    stacked = stack_images(labels, gap=1, fill=UNLABELLED)
    settled = np.full_like(stacked, UNLABELLED)
    flat, fixed = (block.reshape(-1, labels.shape[2]) for block in (stacked, settled))
    inside = settled[:, : labels.shape[1]]
    for _ in range(GROW_STEPS):
        np.multiply(stacked[:, :-1] != UNLABELLED, np.uint8(UNLABELLED), out=inside)
        # Unlabelled is 255, above any label, so the lowest adjacent label is a minimum.
        lowest = cv2.erode(flat, CROSS)
        np.minimum(flat, np.maximum(lowest, fixed, out=lowest), out=flat)
    return stacked[:, :-1]


def _gap_edges(missing: Mask) -> Pairs:
    """Pair the indices of missing pixels with those of other pixels that share a side with them."""
    pairs = []
    for shift, first, second in adjacent_views(missing.shape, connectivity=1):
        for inside, other, step in ((first, second, shift), (second, first, -shift)):
            indices = paste(inside, missing[inside] & ~missing[other], missing.shape)
            pairs.append(np.stack([indices, indices + step]))
    return np.concatenate(pairs, axis=1)
