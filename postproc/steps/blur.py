"""Smoother maps."""

from typing import Annotated

import cv2
import numpy as np
from pydantic import Field

from evaluation.ground.arrays import Map
from postproc.pieces import by_pieces
from postproc.step import Step

CUT = 4
ROW_COL = (2, 3)


def blur(*, sigma: Annotated[float, Field(gt=0, le=100, allow_inf_nan=False)] = 1.0) -> Step:
    """Smooth the probabilities of each class with a Gaussian; they still sum to 1.

    Beyond the border the map goes on mirrored, its last pixel repeated, so that no probability
    flows in or out.

    Args:
        sigma: the Gaussian's standard deviation, in pixels; cut at four of them.
    """
    side = 2 * int(CUT * sigma + 0.5) + 1
    taps = cv2.getGaussianKernel(side, sigma, cv2.CV_32F)
    only = np.ones((1, 1), np.float32)

    def along_rows(maps: Map) -> Map:
        # All rows of all maps lie below each other; none sees the next.
        rows = maps.reshape(-1, maps.shape[3])
        smooth = cv2.sepFilter2D(rows, -1, taps, only, borderType=cv2.BORDER_REFLECT)
        return smooth.reshape(maps.shape)

    def smooth(maps: Map) -> Map:
        turned = np.ascontiguousarray(along_rows(maps).swapaxes(*ROW_COL))
        return along_rows(turned).swapaxes(*ROW_COL)

    return Step("maps", "maps", lambda maps, _: by_pieces(maps, smooth))
