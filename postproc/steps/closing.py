"""Gaps and cracks in a class close: a morphological closing, class after class."""

import numpy as np

from evaluation.ground.arrays import Labels, Pictures
from postproc.options import Only, chosen
from postproc.step import Step
from postproc.tall import closed
from postproc.window import OddSize


def closing(classes: int, *, size: OddSize = 3, only: Only = None) -> Step:
    """Close each class with a square, the lowest class first.

    A pixel goes to the class where no square that covers it is free of that class: cracks and
    notches narrower than the square. A class finds what those below it have left, so where two
    lay claim to a pixel the higher gets it; name the classes in `only` where that matters. Squares
    have their middle in the picture and are cut at the border, as OpenCV and scikit-image do: a
    strip between the class and the border closes up to half the square's width.

    Args:
        classes: how many there are.
        size: side of the square in pixels, odd.
        only: the classes to close; by default all.
    """
    closing_these = chosen(only, classes)

    def apply(labels: Labels, _: Pictures | None) -> Labels:
        result = labels.copy()
        for label in np.intersect1d(closing_these, labels):
            np.copyto(result, np.uint8(label), where=closed(result == label, size))
        return result

    return Step("labels", "labels", apply)
