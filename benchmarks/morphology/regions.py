"""Steps on regions, as users of scikit-image, scipy, OpenCV and MONAI would write them.

Each goes class by class over one image. What is removed goes to the nearest pixel that stays.
"""

from collections.abc import Callable

import cv2
import numpy as np
from monai.transforms.post.array import (
    FillHoles,
    KeepLargestConnectedComponent,
    RemoveSmallObjects,
)
from scipy import ndimage
from skimage import measure, morphology, segmentation

from benchmarks.morphology import (
    Image,
    ImageMask,
    Part,
    Referee,
)
from evaluation.core.types import Array

AREA = 64
ANY_AREA = 100_000
TIES = "ties between labels as near"
METRIC = "nearest by straight distance, not by steps; ties"
Keep = Callable[[ImageMask], ImageMask]

# They have no types of their own.
_numbered: Callable[..., Array] = measure.label
_expanded: Callable[..., Array] = segmentation.expand_labels


def remove_small() -> Part:
    """Compare `remove_small`."""
    monai = RemoveSmallObjects(min_size=AREA, connectivity=1)
    return Part(
        f"remove_small(min_area_px={AREA})",
        {
            "scikit-image": Referee(_refilled(_large_skimage, _by_skimage), METRIC),
            "scikit-image, no refill": Referee(
                _refilled(_large_skimage, _not_at_all), "removes only"
            ),
            "scipy": Referee(_refilled(_large_scipy, _by_scipy), TIES),
            "OpenCV": Referee(_refilled(_large_opencv, _by_opencv), TIES),
            "MONAI": Referee(_refilled(_by_monai(monai), _by_skimage), METRIC),
        },
    )


def keep_largest() -> Part:
    """Compare `keep_largest`."""
    monai = KeepLargestConnectedComponent(applied_labels=1, is_onehot=False, connectivity=1)
    return Part(
        "keep_largest",
        {
            "scikit-image": Referee(_refilled(_largest_skimage, _by_skimage), METRIC),
            "scipy": Referee(_refilled(_largest_scipy, _by_scipy), TIES),
            "OpenCV": Referee(_refilled(_largest_opencv, _by_opencv), TIES),
            "MONAI": Referee(_refilled(_by_monai(monai), _by_skimage), METRIC),
        },
    )


def fill_holes() -> Part:
    """Compare `fill_holes`, with holes of any size."""
    monai = FillHoles(connectivity=1)
    return Part(
        f"fill_holes(max_area_px={ANY_AREA})",
        {
            "scipy": Referee(_filled(ndimage.binary_fill_holes)),
            "scikit-image": Referee(_filled(_filled_skimage)),
            "MONAI": Referee(
                lambda labels, _: np.asarray(monai(labels[None]))[0].astype(np.uint8),
                "fills holes of label 0 only",
            ),
        },
    )


def _refilled(
    keep: Keep, refill: Callable[[Image, ImageMask], Image]
) -> Callable[[Image, Image], Image]:
    def apply(labels: Image, _: Image) -> Image:
        kept = np.zeros(labels.shape, bool)
        for label in np.unique(labels):
            kept |= keep(labels == label)
        return refill(labels, kept) if kept.any() else labels

    return apply


def _filled(fill: Keep) -> Callable[[Image, Image], Image]:
    def apply(labels: Image, _: Image) -> Image:
        result = labels.copy()
        for label in np.unique(labels):
            result[fill(result == label)] = label
        return result

    return apply


def _large_skimage(mask: ImageMask) -> ImageMask:
    large: ImageMask = morphology.remove_small_objects(mask, max_size=AREA - 1)
    return large


def _large_scipy(mask: ImageMask) -> ImageMask:
    numbers, count = ndimage.label(mask)
    large = np.bincount(numbers.ravel(), minlength=count + 1) >= AREA
    large[0] = False
    kept: ImageMask = large[numbers]
    return kept


def _large_opencv(mask: ImageMask) -> ImageMask:
    found = cv2.connectedComponentsWithStats(mask.view(np.uint8), connectivity=4)
    large = found[2][:, cv2.CC_STAT_AREA] >= AREA
    large[0] = False
    kept: ImageMask = large[found[1]]
    return kept


def _largest_skimage(mask: ImageMask) -> ImageMask:
    numbers = _numbered(mask, connectivity=1)
    largest: ImageMask = numbers == np.bincount(numbers.ravel())[1:].argmax() + 1
    return largest


def _largest_scipy(mask: ImageMask) -> ImageMask:
    numbers, _ = ndimage.label(mask)
    largest: ImageMask = numbers == np.bincount(numbers.ravel())[1:].argmax() + 1
    return largest


def _largest_opencv(mask: ImageMask) -> ImageMask:
    found = cv2.connectedComponentsWithStats(mask.view(np.uint8), connectivity=4)
    largest: ImageMask = found[1] == found[2][1:, cv2.CC_STAT_AREA].argmax() + 1
    return largest


def _by_monai(transform: Callable[..., object]) -> Keep:
    return lambda mask: np.asarray(transform(mask[None])).astype(bool)[0]


def _filled_skimage(mask: ImageMask) -> ImageMask:
    holes = _numbered(~mask, connectivity=1)
    border = np.unique(np.concatenate([holes[0], holes[-1], holes[:, 0], holes[:, -1]]))
    filled: ImageMask = ~np.isin(holes, border)
    return filled


def _not_at_all(labels: Image, kept: ImageMask) -> Image:
    return np.where(kept, labels, np.uint8(255))


def _by_skimage(labels: Image, kept: ImageMask) -> Image:
    grown = _expanded(np.where(kept, labels + 1, 0), distance=sum(labels.shape))
    refilled: Image = (grown - 1).astype(np.uint8)
    return refilled


def _by_scipy(labels: Image, kept: ImageMask) -> Image:
    nearest = ndimage.distance_transform_cdt(
        ~kept, "taxicab", return_distances=False, return_indices=True
    )
    refilled: Image = labels[tuple(nearest)]
    return refilled


def _by_opencv(labels: Image, kept: ImageMask) -> Image:
    _, place = cv2.distanceTransformWithLabels(
        (~kept).view(np.uint8), cv2.DIST_L1, 3, labelType=cv2.DIST_LABEL_PIXEL
    )
    table = np.zeros(place.max() + 1, np.uint8)
    table[place[kept]] = labels[kept]
    refilled: Image = table[place]
    return refilled
