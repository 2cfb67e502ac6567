"""The most frequent label around each pixel."""

import cv2
import numpy as np

from evaluation.ground.arrays import Labels, Pictures
from postproc.regions import present
from postproc.step import Step
from postproc.tall import TallPicture, filtered
from postproc.window import OddSize

HIGHEST = 255


def mode_filter(*, size: OddSize = 5) -> Step:
    """Give each pixel the most frequent label in the square window around it.

    A pixel whose own label is among the most frequent keeps it; else the lowest of them wins.
    At the border the window is cut: what lies beyond has no vote.

    Args:
        size: side of the window in pixels, odd.
    """

    def votes(mask: TallPicture) -> TallPicture:
        return cv2.boxFilter(
            mask, cv2.CV_32S, (size, size), normalize=False, borderType=cv2.BORDER_CONSTANT
        )

    def apply(labels: Labels, _: Pictures | None) -> Labels:
        best = np.zeros(labels.shape, dtype=np.int32)
        for label in present(labels):
            mine = (labels == label).view(np.uint8)
            # In one number, by weight: how many, whether it is the own label, how low it is.
            rank = 2 * filtered(mine, votes, gap=size // 2, fill=0)
            rank += mine
            rank *= HIGHEST + 1
            rank += HIGHEST - label
            np.maximum(best, rank, out=best)
        return (HIGHEST - (best & HIGHEST)).astype(np.uint8)

    return Step("labels", "labels", apply)
