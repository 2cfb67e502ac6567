"""Steps on maps, as users of scikit-image, scipy, OpenCV and MONAI would write them."""

from collections.abc import Callable

import cv2
import numpy as np
import torch
from monai.transforms.intensity.array import GaussianSmooth, MedianSmooth
from scipy import ndimage
from skimage import filters, segmentation

from ensemble.pipeline.bench.morphology.part import Part, Picture, PictureMap, Referee
from evaluation.ground.arrays import Array

MEDIAN_SIZE, SIGMA, TAPS = 3, 1.0, 9
SUPERPIXEL_PX, COMPACTNESS, ITERATIONS = 8, 20.0, 5
ZEROS = "zeros beyond the border"
# They have no types of their own.
_median: Callable[..., Array] = filters.median
_gaussian: Callable[..., Array] = filters.gaussian
_superpixels: Callable[..., Array] = segmentation.slic

OneClass = Callable[[Picture], Picture]


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


def _by_class(change: OneClass) -> Callable[[PictureMap, Picture], PictureMap]:
    return lambda maps, _: _normalised(np.stack([change(one) for one in maps]))


def _normalised(maps: PictureMap) -> PictureMap:
    normalised: PictureMap = maps / np.maximum(maps.sum(axis=0), np.finfo(np.float32).tiny)
    return normalised


def _slic(maps: PictureMap, picture: Picture) -> PictureMap:
    owners = _superpixels(
        picture.astype(np.float32) / 255,
        n_segments=picture.size // SUPERPIXEL_PX**2,
        compactness=COMPACTNESS / 255,
        max_num_iter=ITERATIONS,
        channel_axis=None,
        start_label=0,
    )
    sizes = np.bincount(owners.ravel())
    means = [np.bincount(owners.ravel(), weights=one.ravel()) / sizes for one in maps]
    voted: PictureMap = np.stack(means).astype(np.float32)[:, owners]
    return voted
