"""Smoother maps.

Maps without spikes, and with their edges.

The most frequent label around each pixel.
"""

from typing import Annotated, Literal

import cv2
import numpy as np
from pydantic import Field

from evaluation.core.types import Images, Labels, Map
from postproc.batched_filters import OddSize, TallImage, by_pieces, filtered
from postproc.regions import present
from postproc.renormalise import CLASS_AXIS, renormalise
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


HIGHEST = 255


def mode_filter(*, size: OddSize = 5) -> Step:
    """Give each pixel the most frequent label in the square window around it.

    A pixel whose own label is among the most frequent keeps it; else the lowest of them wins.
    At the border the window is cut: what lies beyond has no vote.

    Args:
        size: side of the window in pixels, odd.
    """

    def votes(mask: TallImage) -> TallImage:
        return cv2.boxFilter(
            mask, cv2.CV_32S, (size, size), normalize=False, borderType=cv2.BORDER_CONSTANT
        )

    def apply(labels: Labels, _: Images | None) -> Labels:
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
