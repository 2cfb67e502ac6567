"""Thin parts and rough edges go: a morphological opening of all classes at once.

Gaps and cracks in a class close: a morphological closing, class after class.

Holes in a class go to that class.

One region a class: what else there is of it goes.

Specks go to what surrounds them.
"""

import cv2
import numpy as np

from evaluation.core.classes import UNLABELLED
from evaluation.core.types import Images, Labels
from postproc.batched_filters import OddSize, as_image, by_pieces, highest, lowest, square, stacked
from postproc.regions import (
    Connectivity,
    Mask,
    Refill,
    Regions,
    joined_regions,
    nearest_label,
    present,
    remove_regions,
)
from postproc.step import Area, Only, Step, parse_areas, parse_classes


def opening(*, size: OddSize = 3) -> Step:
    """Open each class with a square; what that takes from a class goes to the nearest label.

    A pixel stays where some square of its own label covers it. The others take the label of the
    nearest pixel that stays (steps along rows and columns; the lowest of several labels); a
    image where none stays is left as it is. At the border the square is cut, so a region is
    not eroded from outside the image.

    Args:
        size: side of the square in pixels, odd.
    """

    def apply(labels: Labels, _: Images | None) -> Labels:
        centre = (lowest(labels, size) == highest(labels, size)).view(np.uint8)
        return nearest_label(labels, highest(centre, size) == 0)

    return Step("labels", "labels", apply)


def closing(classes: int, *, size: OddSize = 3, only: Only = None) -> Step:
    """Close each class with a square, the lowest class first.

    A pixel goes to the class where no square that covers it is free of that class: cracks and
    notches narrower than the square. A class finds what those below it have left, so where two
    lay claim to a pixel the higher gets it; name the classes in `only` where that matters. Squares
    have their middle in the image and are cut at the border, as OpenCV and scikit-image do: a
    strip between the class and the border closes up to half the square's width.

    Args:
        classes: how many there are.
        size: side of the square in pixels, odd.
        only: the classes to close; by default all.
    """
    closing_these = parse_classes(only, classes)

    def close(labels: Labels) -> Labels:
        tall = stacked(labels, gap=size // 2, fill=UNLABELLED)
        rows = labels.shape[1]
        for label in np.intersect1d(closing_these, present(labels)):
            grown = cv2.dilate(as_image(tall == label), square(size)).reshape(tall.shape)
            grown[:, rows:] = 1
            closed = cv2.erode(as_image(grown), square(size)).reshape(tall.shape)
            np.copyto(tall[:, :rows], np.uint8(label), where=closed[:, :rows].view(bool))
        return tall[:, :rows]

    return Step("labels", "labels", lambda labels, _: by_pieces(labels, close))


def fill_holes(
    classes: int,
    *,
    max_area_px: Area = 64,
    only: Only = None,
    connectivity: Connectivity = 1,
) -> Step:
    """Fill what one class wholly encloses, whatever labels are inside, with that class.

    Enclosed means that no walk leads out, by default along rows and columns, so that a ring closed
    at its corners encloses. What touches the border of the image is not enclosed. Of two nested
    holes, the one in the lower class is filled first.

    Args:
        classes: how many there are.
        max_area_px: the largest hole that is filled, in pixels.
        only: the classes whose holes are filled; by default all.
        connectivity: of a hole: 1 joins pixels that share a side, 2 also those that share a
            corner, so that a ring must be closed at its sides.
    """
    filling = parse_classes(only, classes)

    def apply(labels: Labels, _: Images | None) -> Labels:
        regions = Regions.of(labels, connectivity=connectivity)
        inner, pairs = ~regions.at_border(), regions.neighbours()
        label_of = regions.labels.copy()
        for label in np.intersect1d(filling, label_of):
            other = label_of != label
            count, part = joined_regions(regions, other, pairs)
            area = np.bincount(part, weights=regions.areas, minlength=count)
            open_to_border = np.zeros(count, dtype=bool)
            open_to_border[part[~inner]] = True
            hole = (area <= max_area_px) & ~open_to_border
            label_of[other & hole[part]] = label
        return regions.paint(label_of)

    return Step("labels", "labels", apply, again="nothing")


def keep_largest(
    classes: int,
    ignore: int | None,
    *,
    only: Only = None,
    connectivity: Connectivity = 1,
    refill: Refill = "neighbour",
) -> Step:
    """Keep the largest region of each class in each image, and replace its others.

    For things of which there is one, such as an organ or the sky. Of two as large, the one whose
    first row comes first stays, of the same row the left one. What is removed is refilled as in
    `remove_small`, by `neighbour`, `majority` or `next_best`; `next_best` may put down further
    regions. The border ends a region.

    Args:
        classes: how many there are.
        ignore: the class that `next_best` never gives, or None.
        only: the classes to do this to; by default all.
        connectivity: 1 joins pixels that share a side, 2 also those that share a corner.
        refill: what takes their place.
    """
    affected = np.isin(np.arange(classes), parse_classes(only, classes))

    def smaller(labels: Labels) -> Mask:
        regions = Regions.of(labels, connectivity=connectivity)
        order = np.lexsort((-regions.areas, regions.labels, regions.images))
        kind = np.stack([regions.images[order], regions.labels[order]])
        follows = np.append(False, (kind[:, 1:] == kind[:, :-1]).all(axis=0))
        gone = np.zeros(len(order), dtype=bool)
        gone[order] = follows
        return regions.paint(gone & affected[regions.labels])

    return remove_regions(smaller, refill, ignore)


def remove_small(
    classes: int,
    ignore: int | None,
    *,
    min_area_px: Area | list[Area] = 64,
    connectivity: Connectivity = 1,
    refill: Refill = "neighbour",
) -> Step:
    """Replace regions smaller than `min_area_px` by what lies next to them, or the next best class.

    By `neighbour` each of their pixels takes the label of the nearest pixel of a region that stays
    (steps along rows and columns; the lowest of several labels), by `majority` each gap that they
    leave takes, as a whole, the label that most of the pixels around it have; so they join that
    region and nothing small is left. By `next_best` each pixel takes its most probable class
    other than the one that it had and the ignored one (the nearest label where no other has a
    chance); the step then takes maps and gives labels. What it puts there may be small again; a
    plain `remove_small` after it takes care of that.

    An image in which every region is small stays as it is. The border ends a region: what lies
    beyond does not count into its area.

    Args:
        classes: how many there are.
        ignore: the class that `next_best` never gives, or None.
        min_area_px: the smallest area that stays, in pixels; one for all classes or one for each,
            1 for those whose regions all stay.
        connectivity: 1 joins pixels that share a side, 2 also those that share a corner.
        refill: what takes their place.
    """
    least = parse_areas("min_area_px", min_area_px, classes)

    def small(labels: Labels) -> Mask:
        regions = Regions.of(labels, connectivity=connectivity)
        return regions.paint(regions.areas < least[regions.labels])

    return remove_regions(small, refill, ignore)
