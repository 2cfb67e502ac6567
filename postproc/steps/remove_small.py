"""Specks go to what surrounds them."""

from typing import Annotated

import numpy as np
from pydantic import Field

from evaluation.ground.arrays import Labels, Pictures
from postproc.regions import Connectivity, connected, nearest_label, present
from postproc.step import Step


def remove_small(
    *, min_area_px: Annotated[int, Field(ge=1)] = 64, connectivity: Connectivity = 1
) -> Step:
    """Replace regions smaller than `min_area_px`, of any class, by what lies next to them.

    Each of their pixels takes the label of the nearest pixel of a region that stays (steps along
    rows and columns; the lowest of several labels), so it joins that region and nothing small is
    left. A picture in which every region is small stays as it is. The border ends a region: what
    lies beyond does not count into its area.

    Args:
        min_area_px: the smallest area that stays, in pixels.
        connectivity: 1 joins pixels that share a side, 2 also those that share a corner.
    """

    def apply(labels: Labels, _: Pictures | None) -> Labels:
        small = np.zeros(labels.shape, dtype=bool)
        for label in present(labels):
            numbers = connected(labels == label, connectivity=connectivity)
            too_small = np.bincount(numbers.ravel()) < min_area_px
            too_small[0] = False
            small |= too_small[numbers]
        return nearest_label(labels, small)

    return Step("labels", "labels", apply)
