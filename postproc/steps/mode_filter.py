"""The most frequent label around each pixel."""

import numpy as np

from evaluation.ground.arrays import Labels, Pictures
from postproc.regions import present
from postproc.step import Step
from postproc.window import OddSize, window_counts


def mode_filter(*, size: OddSize = 5) -> Step:
    """Give each pixel the most frequent label in the square window around it.

    A pixel whose own label is among the most frequent keeps it; else the lowest of them wins.
    At the border the window is cut: what lies beyond has no vote.

    Args:
        size: side of the window in pixels, odd.
    """

    def apply(labels: Labels, _: Pictures | None) -> Labels:
        most, own = np.zeros((2, *labels.shape), dtype=np.uint16)
        winner = labels.copy()
        for label in present(labels):
            mine = labels == label
            votes = window_counts(mine, size)
            np.copyto(own, votes, where=mine)
            np.copyto(winner, np.uint8(label), where=votes > most)
            np.maximum(most, votes, out=most)
        return np.where(own == most, labels, winner)

    return Step("labels", "labels", apply)
