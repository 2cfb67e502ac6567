"""Steps beside scikit-image, scipy and OpenCV, which go image by image and class by class.

Where an answer is one of several as good (the nearest of two labels), what must hold is tested.
"""

import warnings

import cv2
import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from scipy import ndimage
from skimage import measure, morphology

from postproc.steps import STEPS

CLASSES = 4
seeds = st.integers(0, 2**32 - 1)
sizes = st.tuples(st.integers(1, 17), st.integers(1, 17))


def build(spec):
    return STEPS.build(spec, classes=CLASSES, ignore=None, floor=2.0**-25)


def some_labels(seed, size, *, images=3):
    """Patches with specks."""
    rng = np.random.default_rng(seed)
    noise = ndimage.gaussian_filter(rng.normal(size=(images, CLASSES, *size)), 1, axes=(2, 3))
    return (noise + rng.normal(0, 0.1, noise.shape)).argmax(axis=1).astype(np.uint8)


def some_maps(seed, size, *, images=2):
    rng = np.random.default_rng(seed)
    drawn = rng.dirichlet(np.full(CLASSES, 0.5), (images, *size)).astype(np.float32)
    return np.moveaxis(drawn, -1, 1).copy()


@settings(max_examples=25, deadline=None)
@given(seed=seeds, size=sizes, area=st.integers(2, 20), connectivity=st.sampled_from([1, 2]))
def test_remove_small_keeps_what_scikit_image_keeps_and_takes_the_nearest(
    seed, size, area, connectivity
):
    labels = some_labels(seed, size)
    step = build(f"remove_small(min_area_px={area}, connectivity={connectivity})")
    for image, result in zip(labels, step.apply(labels, None), strict=True):
        kept = np.any(
            [
                morphology.remove_small_objects(
                    image == label, max_size=area - 1, connectivity=connectivity
                )
                for label in np.unique(image)
            ],
            axis=0,
        )
        assert_nearest(image, kept, result)


@settings(max_examples=25, deadline=None)
@given(seed=seeds, size=sizes, connectivity=st.sampled_from([1, 2]))
def test_keep_largest_keeps_the_largest_part_of_scikit_image(seed, size, connectivity):
    labels = some_labels(seed, size)
    step = build(f"keep_largest(connectivity={connectivity})")
    for image, result in zip(labels, step.apply(labels, None), strict=True):
        kept = np.zeros(image.shape, dtype=bool)
        for label in np.unique(image):
            numbers = measure.label(image == label, connectivity=connectivity)
            kept |= numbers == np.bincount(numbers.ravel())[1:].argmax() + 1
        assert_nearest(image, kept, result)


@settings(max_examples=25, deadline=None)
@given(
    seed=seeds,
    size=sizes,
    count=st.integers(1, 3),
    together=st.booleans(),
    connectivity=st.sampled_from([1, 2]),
)
def test_keep_largest_with_background_is_that_of_monai(seed, size, count, together, connectivity):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from monai.transforms import KeepLargestConnectedComponent

    labels = some_labels(seed, size, images=1)
    assume(distinct_areas(labels[0], together=together, connectivity=connectivity))
    options = f"count={count}, together={together}, connectivity={connectivity}"
    step = build(f"keep_largest({options}, refill=background, background=0)")
    theirs = KeepLargestConnectedComponent(
        [1, 2, 3],
        is_onehot=False,
        independent=not together,
        num_components=count,
        connectivity=connectivity,
    )
    expected = theirs(torch.tensor(labels.astype(np.int64))).numpy()
    np.testing.assert_array_equal(step.apply(labels, None), expected)


def distinct_areas(image, *, together, connectivity):
    """Tell whether no two regions have one area, where it is a matter of order which stays."""
    for mask in [image > 0] if together else [image == label for label in (1, 2, 3)]:
        areas = np.bincount(measure.label(mask, connectivity=connectivity).ravel())[1:]
        if len(set(areas)) < len(areas):
            return False
    return True


def assert_nearest(image, kept, result):
    """Removed pixels have a label that lies, by steps, as near as any."""
    if not kept.any():
        np.testing.assert_array_equal(result, image)
        return
    np.testing.assert_array_equal(result[kept], image[kept])
    near = ndimage.distance_transform_cdt(~kept, "taxicab")
    for label in np.unique(result[~kept]):
        taken = ~kept & (result == label)
        to_label = ndimage.distance_transform_cdt(~(kept & (image == label)), "taxicab")
        np.testing.assert_array_equal(to_label[taken], near[taken])


@settings(max_examples=25, deadline=None)
@given(seed=seeds, size=sizes, connectivity=st.sampled_from([1, 2]))
def test_fill_holes_fills_what_scipy_fills(seed, size, connectivity):
    labels = some_labels(seed, size)
    step = build(f"fill_holes(max_area_px=1000, connectivity={connectivity})")
    cross = ndimage.generate_binary_structure(2, connectivity)
    for image, result in zip(labels, step.apply(labels, None), strict=True):
        expected = image.copy()
        for label in np.unique(image):
            expected[ndimage.binary_fill_holes(expected == label, cross)] = label
        np.testing.assert_array_equal(result, expected)


@settings(max_examples=25, deadline=None)
@given(seed=seeds, size=sizes, side=st.sampled_from([1, 3, 5, 7]))
def test_close_closes_what_opencv_and_scikit_image_close(seed, size, side):
    labels = some_labels(seed, size)
    square = np.ones((side, side), np.uint8)
    for image, result in zip(labels, build(f"close(size={side})").apply(labels, None), strict=True):
        expected = image.copy()
        for label in np.unique(image):
            mask = (expected == label).view(np.uint8)
            closed = cv2.morphologyEx(mask, cv2.MORPH_CLOSE, square).view(bool)
            np.testing.assert_array_equal(
                closed, morphology.closing(mask, square, mode="ignore").astype(bool)
            )
            expected[closed] = label
        np.testing.assert_array_equal(result, expected)


@settings(max_examples=25, deadline=None)
@given(seed=seeds, size=sizes, side=st.sampled_from([3, 5]))
def test_open_keeps_what_opencv_opens(seed, size, side):
    labels = some_labels(seed, size)
    square = np.ones((side, side), np.uint8)
    for image, result in zip(labels, build(f"open(size={side})").apply(labels, None), strict=True):
        kept = np.zeros(image.shape, dtype=bool)
        for label in np.unique(image):
            mask = (image == label).view(np.uint8)
            kept |= cv2.morphologyEx(mask, cv2.MORPH_OPEN, square).view(bool)
        assert_nearest(image, kept, result)


@settings(max_examples=25, deadline=None)
@given(seed=seeds, size=sizes, side=st.sampled_from([3, 5]))
def test_median_is_that_of_scipy_and_sums_to_one(seed, size, side):
    maps = some_maps(seed, size)
    expected = ndimage.median_filter(maps, (1, 1, side, side), mode="nearest")
    total = expected.sum(axis=1, keepdims=True)
    result = build(f"median(size={side})").apply(maps, None)
    filled = (total > 0)[:, 0]
    by_scipy = np.moveaxis(expected / np.where(total > 0, total, 1), 1, -1)[filled]
    np.testing.assert_allclose(np.moveaxis(result, 1, -1)[filled], by_scipy, atol=1e-6)
    np.testing.assert_allclose(result.sum(axis=1), 1, atol=1e-5)


@settings(max_examples=25, deadline=None)
@given(seed=seeds, size=sizes, sigma=st.sampled_from([0.3, 1.0, 2.5, 30.0]))
def test_blur_is_that_of_scipy(seed, size, sigma):
    maps = some_maps(seed, size)
    expected = ndimage.gaussian_filter(maps, sigma, axes=(2, 3), mode="reflect")
    np.testing.assert_allclose(build(f"blur(sigma={sigma})").apply(maps, None), expected, atol=2e-6)


@pytest.mark.parametrize(
    ("before", "after"),
    [
        pytest.param("1111 1111 2222 1111 1111", "1111 " * 5, id="a crack closes"),
        pytest.param("1122 1122 1122", "1122 1122 1122", id="an edge stays"),
        pytest.param("1222 1222 1222", "2222 2222 2222", id="a thin strip at the border closes"),
    ],
)
def test_close_by_hand(before, after):
    labels, expected = (
        np.array([[[int(sign) for sign in row] for row in text.split()]], dtype=np.uint8)
        for text in (before, after)
    )
    np.testing.assert_array_equal(build("close").apply(labels, None), expected)
