"""Holes in a class go to that class."""

import numpy as np

from evaluation.ground.arrays import Labels, Pictures
from postproc.options import Area, Only, chosen
from postproc.regions import Connectivity, Regions, joined_regions
from postproc.step import Step


def fill_holes(
    classes: int,
    *,
    max_area_px: Area = 64,
    only: Only = None,
    connectivity: Connectivity = 1,
) -> Step:
    """Fill what one class wholly encloses, whatever labels are inside, with that class.

    Enclosed means that no walk leads out, by default along rows and columns, so that a ring closed
    at its corners encloses. What touches the border of the picture is not enclosed. Of two nested
    holes, the one in the lower class is filled first.

    Args:
        classes: how many there are.
        max_area_px: the largest hole that is filled, in pixels.
        only: the classes whose holes are filled; by default all.
        connectivity: of a hole: 1 joins pixels that share a side, 2 also those that share a
            corner, so that a ring must be closed at its sides.
    """
    filling = chosen(only, classes)

    def apply(labels: Labels, _: Pictures | None) -> Labels:
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
