"""Filters: Gaussian blur and median of probability maps, mode filter of label maps."""

from typing import Annotated, Literal

import cv2
import numpy as np
from pydantic import Field

from evaluation.core.types import Images, Labels, Map
from postproc.batched_filters import OddSize, StackedImage, apply_by_pieces, filter_images
from postproc.regions import present_labels
from postproc.renormalise import CLASS_AXIS, renormalise
from postproc.step import Step

CUTOFF = 4  # of the Gaussian, in standard deviations
ROW_COL = (2, 3)
MAX_LABEL = 255


def blur(*, sigma: Annotated[float, Field(gt=0, le=100)] = 1.0) -> Step:
    """Smooth the probabilities of each class with a Gaussian; they still sum to 1.

    The border is reflected, its last pixel repeated, so that no probability is lost.

    Args:
        sigma: standard deviation of the Gaussian, in pixels; truncated at four of them.

    Examples:
        >>> maps = np.zeros((1, 2, 1, 4), np.float32)
        >>> maps[:, 0, :, :2] = maps[:, 1, :, 2:] = 1
        >>> blur(sigma=1.0).apply(maps, None)[0, 1].round(2)
        array([[0.06, 0.3 , 0.7 , 0.94]], dtype=float32)
    """
    side = 2 * int(CUTOFF * sigma + 0.5) + 1
    taps = cv2.getGaussianKernel(side, sigma, cv2.CV_32F)
    one = np.ones((1, 1), np.float32)

    def along_rows(maps: Map) -> Map:
        # The rows of all maps are stacked; a horizontal kernel mixes none of them.
        rows = maps.reshape(-1, maps.shape[3])
        smooth = cv2.sepFilter2D(rows, -1, taps, one, borderType=cv2.BORDER_REFLECT)
        return smooth.reshape(maps.shape)

    def smooth(maps: Map) -> Map:
        turned = np.ascontiguousarray(along_rows(maps).swapaxes(*ROW_COL))
        return along_rows(turned).swapaxes(*ROW_COL)

    return Step("maps", "maps", lambda maps, _: apply_by_pieces(maps, smooth))


def median(*, size: Literal[3, 5] = 3) -> Step:
    """Take the median of each class's probabilities over a window, and renormalise.

    It removes spikes and keeps straight edges, which `blur` smears. It works on maps, since labels
    have no order; for labels see `mode_filter`. Where the median of every class is 0, as where
    three certain classes meet, a pixel keeps its probabilities. The border is extended by its last
    pixel.

    Args:
        size: side of the square window, in pixels.

    Examples:
        >>> maps = np.full((1, 2, 3, 3), 0.5, np.float32)
        >>> maps[0, :, 1, 1] = 0, 1
        >>> median(size=3).apply(maps, None)[0, :, 1, 1]
        array([0.5, 0.5], dtype=float32)
    """
    radius = size // 2

    def filtered(maps: Map) -> Map:
        padded = np.pad(maps, ((0, 0), (0, 0), (radius, radius), (0, 0)), mode="edge")
        # OpenCV repeats the last column by itself.
        stacked = cv2.medianBlur(padded.reshape(-1, maps.shape[3]), size)
        medians = stacked.reshape(padded.shape)[:, :, radius:-radius].copy()
        empty = medians.sum(axis=CLASS_AXIS, keepdims=True) == 0
        if empty.any():
            np.copyto(medians, maps, where=empty)
            np.copyto(medians, 1, where=~medians.any(axis=CLASS_AXIS, keepdims=True))
        return renormalise(medians)

    return Step("maps", "maps", lambda maps, _: apply_by_pieces(maps, filtered))


def mode_filter(*, size: OddSize = 5) -> Step:
    """Give each pixel the most frequent label of the square window around it.

    Ties go to the pixel's own label if it is among the most frequent, else to the lowest. The
    window is cropped at the border: pixels outside the image do not vote.

    Args:
        size: side of the window in pixels, odd.

    Examples:
        >>> labels = np.array([[[1, 1, 1], [1, 2, 1], [1, 1, 1]]], np.uint8)
        >>> mode_filter(size=3).apply(labels, None)[0, 1]
        array([1, 1, 1], dtype=uint8)
    """

    def count(mask: StackedImage) -> StackedImage:
        return cv2.boxFilter(
            mask, cv2.CV_32S, (size, size), normalize=False, borderType=cv2.BORDER_CONSTANT
        )

    def apply(labels: Labels, _: Images | None) -> Labels:
        best = np.zeros(labels.shape, dtype=np.int32)
        for label in present_labels(labels):
            mask = (labels == label).view(np.uint8)
            # One number, by importance: votes, whether it is the pixel's own label, how low it is.
            rank = 2 * filter_images(mask, count, gap=size // 2, fill=0)
            rank += mask
            rank *= MAX_LABEL + 1
            rank += MAX_LABEL - label
            np.maximum(best, rank, out=best)
        return (MAX_LABEL - (best & MAX_LABEL)).astype(np.uint8)

    return Step("labels", "labels", apply)
