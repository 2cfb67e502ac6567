"""Holes in a class go to that class."""

from typing import Annotated

import numpy as np
from jaxtyping import Bool, Int
from pydantic import Field

from evaluation.ground.arrays import Labels, Pictures
from postproc.regions import connected, present
from postproc.step import Step


def fill_holes(*, max_area_px: Annotated[int, Field(ge=1)] = 64) -> Step:
    """Fill what one class wholly encloses, whatever labels are inside, with that class.

    Enclosed means that no walk along rows and columns leads out, so a ring closed at its corners
    encloses. What touches the border of the picture is not enclosed. Of two nested holes, the one
    in the lower class is filled first.

    Args:
        max_area_px: the largest hole that is filled, in pixels.
    """

    def apply(labels: Labels, _: Pictures | None) -> Labels:
        filled = labels.copy()
        for label in present(labels):
            numbers = connected(filled != label)
            areas = np.bincount(numbers.ravel())
            hole = (areas <= max_area_px) & ~_at_border(numbers, len(areas))
            hole[0] = False
            np.copyto(filled, np.uint8(label), where=hole[numbers])
        return filled

    return Step("labels", "labels", apply)


def _at_border(
    numbers: Int[np.ndarray, "picture row col"], count: int
) -> Bool[np.ndarray, " part"]:
    touches = np.zeros(count, dtype=bool)
    for edge in (numbers[:, 0], numbers[:, -1], numbers[:, :, 0], numbers[:, :, -1]):
        touches[edge] = True
    return touches
