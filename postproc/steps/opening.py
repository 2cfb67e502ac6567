"""Thin parts and rough edges go: a morphological opening of all classes at once."""

import numpy as np

from evaluation.ground.arrays import Labels, Pictures
from postproc.refill import nearest_label
from postproc.step import Step
from postproc.tall import highest, lowest
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

    def apply(labels: Labels, _: Pictures | None) -> Labels:
        centre = (lowest(labels, size) == highest(labels, size)).view(np.uint8)
        return nearest_label(labels, highest(centre, size) == 0)

    return Step("labels", "labels", apply)
