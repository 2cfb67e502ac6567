"""Gaps and cracks in a class close: a morphological closing, class after class."""

import cv2
import numpy as np

from evaluation.ground.arrays import Labels
from evaluation.ground.classes import UNLABELLED
from postproc.options import Only, chosen
from postproc.pieces import by_pieces
from postproc.regions import present
from postproc.step import Step
from postproc.tall import flat, square, stacked
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

    def close(labels: Labels) -> Labels:
        tall = stacked(labels, gap=size // 2, fill=UNLABELLED)
        rows = labels.shape[1]
        for label in np.intersect1d(closing_these, present(labels)):
            grown = cv2.dilate(flat(tall == label), square(size)).reshape(tall.shape)
            grown[:, rows:] = 1
            closed = cv2.erode(flat(grown), square(size)).reshape(tall.shape)
            np.copyto(tall[:, :rows], np.uint8(label), where=closed[:, :rows].view(bool))
        return tall[:, :rows]

    return Step("labels", "labels", lambda labels, _: by_pieces(labels, close))
