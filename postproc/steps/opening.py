"""Thin parts and rough edges go: a morphological opening of all classes at once."""

import numpy as np
from scipy import ndimage

from evaluation.ground.arrays import Labels, Pictures
from postproc.regions import nearest_label
from postproc.step import Step
from postproc.window import OddSize


def opening(*, size: OddSize = 3) -> Step:
    """Open each class with a square; what that takes from a class goes to the nearest label.

    A pixel stays where some square of its own label covers it. The others take the label of the
    nearest pixel that stays (steps along rows and columns; the lowest of several labels); a
    picture where none stays is left as it is. At the border the square is cut, so a region is
    not eroded from outside the picture.

    Args:
        size: side of the square in pixels, odd.
    """
    square = (1, size, size)

    def apply(labels: Labels, _: Pictures | None) -> Labels:
        # "nearest" repeats the edge, which lies in the window anyway: the same as cutting it.
        lowest = ndimage.minimum_filter(labels, square, mode="nearest")
        highest = ndimage.maximum_filter(labels, square, mode="nearest")
        centre = (lowest == highest).astype(np.uint8)
        covered = ndimage.maximum_filter(centre, square, mode="nearest")
        return nearest_label(labels, covered == 0)

    return Step("labels", "labels", apply)
