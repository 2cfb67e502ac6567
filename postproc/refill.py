"""What takes the place of pixels that a step removes."""

from collections.abc import Callable
from typing import Literal

import cv2
import numpy as np

from evaluation.ground.arrays import Labels, Map, Pictures
from evaluation.ground.classes import UNLABELLED
from evaluation.ground.highest import highest
from postproc.regions import Mask, Pairs, Regions, placed, sides
from postproc.step import Step
from postproc.tall import stacked

Refill = Literal["neighbour", "majority", "next_best"]
STEPS = 4
CROSS = cv2.getStructuringElement(cv2.MORPH_CROSS, (3, 3))


def removing(find: Callable[[Labels], Mask], refill: Refill, ignore: int | None) -> Step:
    """Build the step that removes pixels and fills what is left open.

    A picture of which everything would be removed stays as it is.

    Args:
        find: tells, for label maps, which pixels go.
        refill: `neighbour`: each takes the label of the nearest pixel that stays; `majority`: each
            gap takes the most frequent label beside it; `next_best`: each takes its most probable
            other class, for which the step takes maps.
        ignore: the class that `next_best` never gives, or None.
    """
    if refill == "next_best":

        def relabel(maps: Map, _: Pictures | None) -> Labels:
            labels = highest(maps)
            return next_best(maps, labels, find(labels), ignore)

        return Step("maps", "labels", relabel)
    fill = nearest_label if refill == "neighbour" else majority_label
    return Step("labels", "labels", lambda labels, _: fill(labels, find(labels)), again="nothing")


def nearest_label(labels: Labels, missing: Mask) -> Labels:
    """Give missing pixels the label of the nearest other pixel of their picture.

    Near by steps along rows and columns; of several equally near, the lowest label. Thus a pixel
    always joins a region that was there. A picture of which everything is missing stays as it is.

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
    for each side. Of several labels as frequent, the lowest. A picture of which everything is
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
    for shift, first, second in sides(missing.shape, connectivity=1):
        for inside, other, step in ((first, second, shift), (second, first, -shift)):
            places = placed(inside, missing[inside] & ~missing[other], missing.shape)
            found.append(np.stack([places, places + step]))
    return np.concatenate(found, axis=1)


def next_best(maps: Map, labels: Labels, missing: Mask, ignore: int | None) -> Labels:
    """Give missing pixels their most probable class other than their own and the ignored one.

    Where no such class has a chance, the nearest label. A picture of which everything is missing
    stays as it is.
    """
    missing = missing & ~missing.all(axis=(1, 2), keepdims=True)
    picture, row, col = np.nonzero(missing)
    scores = maps[picture, :, row, col]
    np.put_along_axis(scores, labels[missing][:, None].astype(np.intp), 0, axis=1)
    if ignore is not None:
        scores[:, ignore] = 0
    found = labels.copy()
    found[missing] = highest(scores)
    missing[missing] = scores.max(axis=1) == 0
    return nearest_label(found, missing)
