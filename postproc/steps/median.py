"""Maps without spikes, and with their edges."""

from typing import Literal

import cv2
import numpy as np

from evaluation.ground.arrays import Map
from postproc.pieces import by_pieces
from postproc.renormalise import CLASS_AXIS, renormalise
from postproc.step import Step


def median(*, size: Literal[3, 5] = 3) -> Step:
    """Give each class the median of its probabilities in the window, and renormalise.

    Spikes go and straight edges stay, where `blur` smears both. This is of maps, since labels have
    no order; for labels the median's place is taken by `mode_filter`. Where every class's median
    is 0, as where three certain classes meet, a pixel keeps its probabilities. Beyond the border
    the map goes on with its last pixel.

    Args:
        size: side of the square window in pixels.
    """
    reach = size // 2

    def medians_of(maps: Map) -> Map:
        framed = np.pad(maps, ((0, 0), (0, 0), (reach, reach), (0, 0)), mode="edge")
        # OpenCV repeats the last column by itself.
        tall = cv2.medianBlur(framed.reshape(-1, maps.shape[3]), size)
        medians = tall.reshape(framed.shape)[:, :, reach:-reach].copy()
        nothing = medians.sum(axis=CLASS_AXIS, keepdims=True) == 0
        if nothing.any():
            np.copyto(medians, maps, where=nothing)
            np.copyto(medians, 1, where=~medians.any(axis=CLASS_AXIS, keepdims=True))
        return renormalise(medians)

    return Step("maps", "maps", lambda maps, _: by_pieces(maps, medians_of))
