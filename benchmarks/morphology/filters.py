"""Steps on maps, as users of scikit-image, scipy, OpenCV and MONAI would write them.

Steps on windows of labels, as users of scikit-image, scipy and OpenCV would write them.
"""

from collections.abc import Callable

import cv2
import numpy as np
import torch
from jaxtyping import Shaped
from monai.transforms.intensity.array import GaussianSmooth, MedianSmooth
from scipy import ndimage
from skimage import filters, morphology, segmentation
from skimage.filters import rank

from benchmarks.morphology import (
    Image,
    ImageMap,
    ImageMask,
    Part,
    Referee,
)
from evaluation.core.types import Array

MEDIAN_SIZE, SIGMA, TAPS = 3, 1.0, 9
SUPERPIXEL_PX, COMPACTNESS, ITERATIONS = 8, 20.0, 5
ZEROS = "zeros beyond the border"
# They have no types of their own.
_median: Callable[..., Array] = filters.median
_gaussian: Callable[..., Array] = filters.gaussian
_superpixels: Callable[..., Array] = segmentation.slic

OneClass = Callable[[Image], Image]


def median() -> Part:
    """Compare `median`."""
    window = np.ones((MEDIAN_SIZE, MEDIAN_SIZE))
    monai = MedianSmooth(radius=MEDIAN_SIZE // 2)
    return Part(
        f"median(size={MEDIAN_SIZE})",
        {
            "OpenCV": Referee(_by_class(lambda one: cv2.medianBlur(one, MEDIAN_SIZE))),
            "scipy": Referee(
                _by_class(lambda one: ndimage.median_filter(one, MEDIAN_SIZE, mode="nearest"))
            ),
            "scikit-image": Referee(_by_class(lambda one: _median(one, window, mode="nearest"))),
            "MONAI": Referee(
                lambda maps, _: _normalised(np.asarray(monai(torch.from_numpy(maps)))), ZEROS
            ),
        },
    )


def blur() -> Part:
    """Compare `blur`."""
    border = cv2.BORDER_REFLECT
    monai = GaussianSmooth(SIGMA)
    return Part(
        f"blur(sigma={SIGMA})",
        {
            "OpenCV": Referee(
                _by_class(lambda one: cv2.GaussianBlur(one, (TAPS, TAPS), SIGMA, borderType=border))
            ),
            "scipy": Referee(_by_class(lambda one: ndimage.gaussian_filter(one, SIGMA))),
            "scikit-image": Referee(
                lambda maps, _: _gaussian(maps, SIGMA, mode="reflect", channel_axis=0)
            ),
            "MONAI": Referee(
                lambda maps, _: _normalised(np.asarray(monai(torch.from_numpy(maps)))),
                f"{ZEROS}; the Gaussian integrated over pixels",
            ),
        },
    )


def superpixel_vote() -> Part:
    """Compare `superpixel_vote`, with as many superpixels as scikit-image will make of them."""
    return Part(
        f"superpixel_vote(size_px={SUPERPIXEL_PX})",
        {"scikit-image": Referee(_slic, "other first centres; parts are made connected")},
    )


def _by_class(change: OneClass) -> Callable[[ImageMap, Image], ImageMap]:
    return lambda maps, _: _normalised(np.stack([change(one) for one in maps]))


def _normalised(maps: ImageMap) -> ImageMap:
    normalised: ImageMap = maps / np.maximum(maps.sum(axis=0), np.finfo(np.float32).tiny)
    return normalised


def _slic(maps: ImageMap, image: Image) -> ImageMap:
    owners = _superpixels(
        image.astype(np.float32) / 255,
        n_segments=image.size // SUPERPIXEL_PX**2,
        compactness=COMPACTNESS / 255,
        max_num_iter=ITERATIONS,
        channel_axis=None,
        start_label=0,
    )
    sizes = np.bincount(owners.ravel())
    means = [np.bincount(owners.ravel(), weights=one.ravel()) / sizes for one in maps]
    voted: ImageMap = np.stack(means).astype(np.float32)[:, owners]
    return voted


MODE_SIZE, SQUARE_SIZE = 5, 3
SQUARE = np.ones((SQUARE_SIZE, SQUARE_SIZE), np.uint8)
BEYOND = 255
TIES = "of labels as frequent the lowest, whichever the pixel has"
METRIC = "nearest by straight distance, not by steps; ties"
Change = Callable[[ImageMask], ImageMask]

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
                f"erodes from outside the image; {METRIC}",
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
                "erodes from outside the image",
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
    def apply(mask: ImageMask) -> ImageMask:
        changed: ImageMask = cv2.morphologyEx(mask.view(np.uint8), operation, SQUARE).view(bool)
        return changed

    return apply


def _opened(change: Change) -> Callable[[Image, Image], Image]:
    def apply(labels: Image, _: Image) -> Image:
        seeds = np.zeros(labels.shape, np.intp)
        for label in np.unique(labels):
            seeds[change(labels == label)] = label + 1
        if not seeds.any():
            return labels
        grown = _expanded(seeds, distance=sum(labels.shape))
        opened: Image = (grown - 1).astype(np.uint8)
        return opened

    return apply


def _closed(change: Change) -> Callable[[Image, Image], Image]:
    def apply(labels: Image, _: Image) -> Image:
        result = labels.copy()
        for label in np.unique(labels):
            result[change(result == label)] = label
        return result

    return apply
