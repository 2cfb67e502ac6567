"""Steps as users of scikit-image, SciPy, OpenCV and MONAI would write them, one image at a time.

Steps on labels go class by class. What is removed takes the label of the nearest pixel that stays.
"""

from collections.abc import Callable

import cv2
import numpy as np
import torch
from jaxtyping import Bool, Float, Shaped
from monai.transforms.intensity.array import GaussianSmooth, MedianSmooth
from monai.transforms.post.array import (
    FillHoles,
    KeepLargestConnectedComponent,
    RemoveSmallObjects,
)
from scipy import ndimage
from skimage import filters, measure, morphology, segmentation
from skimage.filters import rank

from benchmarks.morphology import Comparison, Image, ReferenceTool
from evaluation.core.types import Array

AREA_PX, ANY_AREA_PX = 64, 100_000
MODE_SIZE, SQUARE_SIZE, MEDIAN_SIZE = 5, 3, 3
SQUARE = np.ones((SQUARE_SIZE, SQUARE_SIZE), np.uint8)
SIGMA, TAPS = 1.0, 9
SUPERPIXEL_PX, COMPACTNESS, ITERATIONS = 8, 20.0, 5
OUTSIDE = 255
"""Value of pixels beyond the border."""

TIES = "ties between labels at the same distance"
METRIC = "nearest by Euclidean distance, not by steps; ties"
MODE_TIES = "the lowest of equally frequent labels, even if the pixel has another of them"
ZEROS = "zeros beyond the border"
ERODES_BORDER = "erodes from outside the image"

ImageMask = Bool[np.ndarray, "row col"]
ImageMap = Float[np.ndarray, "class row col"]
MaskFilter = Callable[[ImageMask], ImageMask]
LabelFilter = Callable[[Image, Image], Image]

# scikit-image ships no types.
_connected_parts: Callable[..., Array] = measure.label
_expand_labels: Callable[..., Array] = segmentation.expand_labels
_majority: Callable[..., Array] = rank.majority
_modal: Callable[..., Array] = rank.modal
_median: Callable[..., Array] = filters.median
_gaussian: Callable[..., Array] = filters.gaussian
_superpixels: Callable[..., Array] = segmentation.slic


def remove_small() -> Comparison:
    """Compare `remove_small`."""
    monai = RemoveSmallObjects(min_size=AREA_PX, connectivity=1)
    return Comparison(
        f"remove_small(min_area_px={AREA_PX})",
        {
            "scikit-image": ReferenceTool(_refilled(_large_skimage, _refill_skimage), METRIC),
            "scikit-image, no refill": ReferenceTool(
                _refilled(_large_skimage, _no_refill), "removes only"
            ),
            "scipy": ReferenceTool(_refilled(_large_scipy, _refill_scipy), TIES),
            "OpenCV": ReferenceTool(_refilled(_large_opencv, _refill_opencv), TIES),
            "MONAI": ReferenceTool(_refilled(_monai(monai), _refill_skimage), METRIC),
        },
    )


def keep_largest() -> Comparison:
    """Compare `keep_largest`."""
    monai = KeepLargestConnectedComponent(applied_labels=1, is_onehot=False, connectivity=1)
    return Comparison(
        "keep_largest",
        {
            "scikit-image": ReferenceTool(_refilled(_largest_skimage, _refill_skimage), METRIC),
            "scipy": ReferenceTool(_refilled(_largest_scipy, _refill_scipy), TIES),
            "OpenCV": ReferenceTool(_refilled(_largest_opencv, _refill_opencv), TIES),
            "MONAI": ReferenceTool(_refilled(_monai(monai), _refill_skimage), METRIC),
        },
    )


def fill_holes() -> Comparison:
    """Compare `fill_holes`, with holes of any size."""
    monai = FillHoles(connectivity=1)
    return Comparison(
        f"fill_holes(max_area_px={ANY_AREA_PX})",
        {
            "scipy": ReferenceTool(_grown(ndimage.binary_fill_holes)),
            "scikit-image": ReferenceTool(_grown(_fill_holes_skimage)),
            "MONAI": ReferenceTool(
                lambda labels, _: np.asarray(monai(labels[None]))[0].astype(np.uint8),
                "fills holes of label 0 only",
            ),
        },
    )


def mode_filter() -> Comparison:
    """Compare `mode_filter`."""
    window = np.ones((MODE_SIZE, MODE_SIZE), np.uint8)
    return Comparison(
        f"mode_filter(size={MODE_SIZE})",
        {
            "scipy, generic_filter": ReferenceTool(
                lambda labels, _: ndimage.generic_filter(
                    labels, _mode, size=MODE_SIZE, mode="constant", cval=OUTSIDE
                )
            ),
            "scikit-image, rank.majority": ReferenceTool(
                lambda labels, _: _majority(labels, window), MODE_TIES
            ),
            "scikit-image, rank.modal": ReferenceTool(
                lambda labels, _: _modal(labels, window), MODE_TIES
            ),
        },
    )


def opening() -> Comparison:
    """Compare `open`; pixels that opening removes take the nearest label."""
    return Comparison(
        f"open(size={SQUARE_SIZE})",
        {
            "scikit-image": ReferenceTool(
                _opened(lambda mask: morphology.opening(mask, SQUARE, mode="ignore")), METRIC
            ),
            "scipy": ReferenceTool(
                _opened(lambda mask: ndimage.binary_opening(mask, SQUARE)),
                f"{ERODES_BORDER}; {METRIC}",
            ),
            "OpenCV": ReferenceTool(_opened(_morphology_opencv(cv2.MORPH_OPEN)), METRIC),
        },
    )


def closing() -> Comparison:
    """Compare `close`."""
    return Comparison(
        f"close(size={SQUARE_SIZE})",
        {
            "scikit-image": ReferenceTool(
                _grown(lambda mask: morphology.closing(mask, SQUARE, mode="ignore"))
            ),
            "scipy": ReferenceTool(
                _grown(lambda mask: ndimage.binary_closing(mask, SQUARE)), ERODES_BORDER
            ),
            "OpenCV": ReferenceTool(_grown(_morphology_opencv(cv2.MORPH_CLOSE))),
        },
    )


def median() -> Comparison:
    """Compare `median`."""
    window = np.ones((MEDIAN_SIZE, MEDIAN_SIZE))
    monai = MedianSmooth(radius=MEDIAN_SIZE // 2)
    return Comparison(
        f"median(size={MEDIAN_SIZE})",
        {
            "OpenCV": ReferenceTool(_class_by_class(lambda x: cv2.medianBlur(x, MEDIAN_SIZE))),
            "scipy": ReferenceTool(
                _class_by_class(lambda x: ndimage.median_filter(x, MEDIAN_SIZE, mode="nearest"))
            ),
            "scikit-image": ReferenceTool(
                _class_by_class(lambda x: _median(x, window, mode="nearest"))
            ),
            "MONAI": ReferenceTool(
                lambda maps, _: _normalised(np.asarray(monai(torch.from_numpy(maps)))), ZEROS
            ),
        },
    )


def blur() -> Comparison:
    """Compare `blur`."""
    border = cv2.BORDER_REFLECT
    monai = GaussianSmooth(SIGMA)
    return Comparison(
        f"blur(sigma={SIGMA})",
        {
            "OpenCV": ReferenceTool(
                _class_by_class(
                    lambda x: cv2.GaussianBlur(x, (TAPS, TAPS), SIGMA, borderType=border)
                )
            ),
            "scipy": ReferenceTool(_class_by_class(lambda x: ndimage.gaussian_filter(x, SIGMA))),
            "scikit-image": ReferenceTool(
                lambda maps, _: _gaussian(maps, SIGMA, mode="reflect", channel_axis=0)
            ),
            "MONAI": ReferenceTool(
                lambda maps, _: _normalised(np.asarray(monai(torch.from_numpy(maps)))),
                f"{ZEROS}; the Gaussian integrated over pixels",
            ),
        },
    )


def superpixel_vote() -> Comparison:
    """Compare `superpixel_vote`, with as many superpixels as scikit-image will make of them."""
    return Comparison(
        f"superpixel_vote(size_px={SUPERPIXEL_PX})",
        {"scikit-image": ReferenceTool(_slic, "other initial centres; parts are made connected")},
    )


def _refilled(keep: MaskFilter, refill: Callable[[Image, ImageMask], Image]) -> LabelFilter:
    """Keep some pixels of each class, and relabel the others."""

    def apply(labels: Image, _: Image) -> Image:
        kept = np.zeros(labels.shape, bool)
        for label in np.unique(labels):
            kept |= keep(labels == label)
        return refill(labels, kept) if kept.any() else labels

    return apply


def _opened(keep: MaskFilter) -> LabelFilter:
    def apply(labels: Image, _: Image) -> Image:
        seeds = np.zeros(labels.shape, np.intp)
        for label in np.unique(labels):
            seeds[keep(labels == label)] = label + 1
        if not seeds.any():
            return labels
        opened: Image = (_expand_labels(seeds, distance=sum(labels.shape)) - 1).astype(np.uint8)
        return opened

    return apply


def _grown(grow: MaskFilter) -> LabelFilter:
    """Grow one class after the other."""

    def apply(labels: Image, _: Image) -> Image:
        result = labels.copy()
        for label in np.unique(labels):
            result[grow(result == label)] = label
        return result

    return apply


def _class_by_class(smooth: Callable[[Image], Image]) -> Callable[[ImageMap, Image], ImageMap]:
    return lambda maps, _: _normalised(np.stack([smooth(one_class) for one_class in maps]))


def _normalised(maps: ImageMap) -> ImageMap:
    normalised: ImageMap = maps / np.maximum(maps.sum(axis=0), np.finfo(np.float32).tiny)
    return normalised


def _large_skimage(mask: ImageMask) -> ImageMask:
    large: ImageMask = morphology.remove_small_objects(mask, max_size=AREA_PX - 1)
    return large


def _large_scipy(mask: ImageMask) -> ImageMask:
    numbers, count = ndimage.label(mask)
    large = np.bincount(numbers.ravel(), minlength=count + 1) >= AREA_PX
    large[0] = False
    kept: ImageMask = large[numbers]
    return kept


def _large_opencv(mask: ImageMask) -> ImageMask:
    _, numbers, stats, _ = cv2.connectedComponentsWithStats(mask.view(np.uint8), connectivity=4)
    large = stats[:, cv2.CC_STAT_AREA] >= AREA_PX
    large[0] = False
    kept: ImageMask = large[numbers]
    return kept


def _largest_skimage(mask: ImageMask) -> ImageMask:
    return _largest(_connected_parts(mask, connectivity=1))


def _largest_scipy(mask: ImageMask) -> ImageMask:
    return _largest(ndimage.label(mask)[0])


def _largest(numbers: Array) -> ImageMask:
    largest: ImageMask = numbers == np.bincount(numbers.ravel())[1:].argmax() + 1
    return largest


def _largest_opencv(mask: ImageMask) -> ImageMask:
    _, numbers, stats, _ = cv2.connectedComponentsWithStats(mask.view(np.uint8), connectivity=4)
    largest: ImageMask = numbers == stats[1:, cv2.CC_STAT_AREA].argmax() + 1
    return largest


def _fill_holes_skimage(mask: ImageMask) -> ImageMask:
    holes = _connected_parts(~mask, connectivity=1)
    border = np.unique(np.concatenate([holes[0], holes[-1], holes[:, 0], holes[:, -1]]))
    filled: ImageMask = ~np.isin(holes, border)
    return filled


def _monai(transform: Callable[..., object]) -> MaskFilter:
    return lambda mask: np.asarray(transform(mask[None])).astype(bool)[0]


def _morphology_opencv(operation: int) -> MaskFilter:
    def apply(mask: ImageMask) -> ImageMask:
        changed: ImageMask = cv2.morphologyEx(mask.view(np.uint8), operation, SQUARE).view(bool)
        return changed

    return apply


def _no_refill(labels: Image, kept: ImageMask) -> Image:
    return np.where(kept, labels, np.uint8(OUTSIDE))


def _refill_skimage(labels: Image, kept: ImageMask) -> Image:
    grown = _expand_labels(np.where(kept, labels + 1, 0), distance=sum(labels.shape))
    refilled: Image = (grown - 1).astype(np.uint8)
    return refilled


def _refill_scipy(labels: Image, kept: ImageMask) -> Image:
    nearest = ndimage.distance_transform_cdt(
        ~kept, "taxicab", return_distances=False, return_indices=True
    )
    refilled: Image = labels[tuple(nearest)]
    return refilled


def _refill_opencv(labels: Image, kept: ImageMask) -> Image:
    _, nearest = cv2.distanceTransformWithLabels(
        (~kept).view(np.uint8), cv2.DIST_L1, 3, labelType=cv2.DIST_LABEL_PIXEL
    )
    table = np.zeros(nearest.max() + 1, np.uint8)
    table[nearest[kept]] = labels[kept]
    refilled: Image = table[nearest]
    return refilled


def _mode(window: Shaped[np.ndarray, " pixel"]) -> int:
    """Return the window's most frequent label; of equal ones that of its centre, if it is one."""
    votes = np.bincount(window.astype(np.intp), minlength=OUTSIDE + 1)
    votes[OUTSIDE] = 0
    centre = int(window[len(window) // 2])
    best = int(votes.argmax())
    return centre if votes[centre] == votes[best] else best


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
    means = [np.bincount(owners.ravel(), weights=one_class.ravel()) / sizes for one_class in maps]
    voted: ImageMap = np.stack(means).astype(np.float32)[:, owners]
    return voted
