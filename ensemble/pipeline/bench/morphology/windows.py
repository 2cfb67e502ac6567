"""Steps on windows of labels, as users of scikit-image, scipy and OpenCV would write them."""

from collections.abc import Callable

import cv2
import numpy as np
from jaxtyping import Shaped
from scipy import ndimage
from skimage import morphology, segmentation
from skimage.filters import rank

from ensemble.pipeline.bench.morphology.part import Part, Picture, PictureMask, Referee
from evaluation.ground.arrays import Array

MODE_SIZE, SQUARE_SIZE = 5, 3
SQUARE = np.ones((SQUARE_SIZE, SQUARE_SIZE), np.uint8)
BEYOND = 255
TIES = "of labels as frequent the lowest, whichever the pixel has"
METRIC = "nearest by straight distance, not by steps; ties"
Change = Callable[[PictureMask], PictureMask]

# They have no types of their own.
_majority: Callable[..., Array] = rank.majority
_modal: Callable[..., Array] = rank.modal
_expanded: Callable[..., Array] = segmentation.expand_labels


def mode_filter() -> Part:
    """Compare `mode_filter`."""
    window = np.ones((MODE_SIZE, MODE_SIZE), np.uint8)
    return Part(
        f"mode_filter(size={MODE_SIZE})",
        {
            "scipy, generic_filter": Referee(
                lambda labels, _: ndimage.generic_filter(
                    labels, _mode, size=MODE_SIZE, mode="constant", cval=BEYOND
                )
            ),
            "scikit-image, rank.majority": Referee(
                lambda labels, _: _majority(labels, window), TIES
            ),
            "scikit-image, rank.modal": Referee(lambda labels, _: _modal(labels, window), TIES),
        },
    )


def opening() -> Part:
    """Compare `open`; what opening takes away goes to the nearest label."""
    return Part(
        f"open(size={SQUARE_SIZE})",
        {
            "scikit-image": Referee(
                _opened(lambda mask: morphology.opening(mask, SQUARE, mode="ignore")), METRIC
            ),
            "scipy": Referee(
                _opened(lambda mask: ndimage.binary_opening(mask, SQUARE)),
                f"erodes from outside the picture; {METRIC}",
            ),
            "OpenCV": Referee(_opened(_by_opencv(cv2.MORPH_OPEN)), METRIC),
        },
    )


def closing() -> Part:
    """Compare `close`, class after class."""
    return Part(
        f"close(size={SQUARE_SIZE})",
        {
            "scikit-image": Referee(
                _closed(lambda mask: morphology.closing(mask, SQUARE, mode="ignore"))
            ),
            "scipy": Referee(
                _closed(lambda mask: ndimage.binary_closing(mask, SQUARE)),
                "erodes from outside the picture",
            ),
            "OpenCV": Referee(_closed(_by_opencv(cv2.MORPH_CLOSE))),
        },
    )


def _mode(window: Shaped[np.ndarray, " pixel"]) -> int:
    """Return the window's most frequent label, its middle's where that is one of them."""
    votes = np.bincount(window.astype(np.intp), minlength=BEYOND + 1)
    votes[BEYOND] = 0
    own = int(window[len(window) // 2])
    best = int(votes.argmax())
    return own if votes[own] == votes[best] else best


def _by_opencv(operation: int) -> Change:
    def apply(mask: PictureMask) -> PictureMask:
        changed: PictureMask = cv2.morphologyEx(mask.view(np.uint8), operation, SQUARE).view(bool)
        return changed

    return apply


def _opened(change: Change) -> Callable[[Picture, Picture], Picture]:
    def apply(labels: Picture, _: Picture) -> Picture:
        seeds = np.zeros(labels.shape, np.intp)
        for label in np.unique(labels):
            seeds[change(labels == label)] = label + 1
        if not seeds.any():
            return labels
        grown = _expanded(seeds, distance=sum(labels.shape))
        opened: Picture = (grown - 1).astype(np.uint8)
        return opened

    return apply


def _closed(change: Change) -> Callable[[Picture, Picture], Picture]:
    def apply(labels: Picture, _: Picture) -> Picture:
        result = labels.copy()
        for label in np.unique(labels):
            result[change(result == label)] = label
        return result

    return apply
