"""Steps on maps: what each one promises beyond what all do."""

import numpy as np
import pydensecrf.densecrf as dcrf
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from evaluation.core.arrays import argmax
from evaluation.core.errors import BadSpec
from postproc.steps import STEPS

seeds = st.integers(0, 2**32 - 1)


def build(spec, *, classes, ignore=None):
    return STEPS.build(spec, classes=classes, ignore=ignore, floor=2.0**-25)


def pixel(*probabilities):
    return np.array(probabilities, dtype=np.float32)[None, :, None, None]


def vague_maps(seed, classes, shape=(2, 6, 7)):
    drawn = np.random.default_rng(seed).dirichlet(np.ones(classes), shape).astype(np.float32)
    return np.moveaxis(drawn, -1, 1).copy()


class TestSuppressBackground:
    @pytest.mark.parametrize(
        ("before", "after"),
        [
            pytest.param([0.6, 0.1, 0.3], [0, 0.25, 0.75], id="the second choice wins"),
            pytest.param([1, 0, 0], [0, 0.5, 0.5], id="nothing left is shared evenly"),
            pytest.param([0, 0, 0], [0, 0.5, 0.5], id="all zero is shared evenly"),
            pytest.param([0, 0.2, 0.8], [0, 0.2, 0.8], id="no background, no change"),
            pytest.param(
                [1, 1e-45, 0], [0, 1, 0], id="the smallest number is still a second choice"
            ),
        ],
    )
    def test_by_hand(self, before, after):
        step = build("suppress_background", classes=3, ignore=0)
        result = step.apply(pixel(*before), None)
        np.testing.assert_allclose(result, pixel(*after), atol=1e-7)

    @settings(max_examples=25, deadline=None)
    @given(seed=seeds, classes=st.sampled_from([2, 3, 5]), ignore=st.integers(0, 1))
    def test_leaves_no_ignored_class_and_changes_no_other_label(self, seed, classes, ignore):
        maps = vague_maps(seed, classes)
        after = argmax(
            build("suppress_background", classes=classes, ignore=ignore).apply(maps, None)
        )
        labels = argmax(maps)
        assert not (after == ignore).any()
        np.testing.assert_array_equal(after[labels != ignore], labels[labels != ignore])

    def test_rounding_makes_no_ties(self):
        """Values one step of float32 apart: a division alone merges some of them."""
        lower = np.linspace(0.2375, 0.2475, 10_000, dtype=np.float32)
        higher = np.nextafter(lower, np.float32(1))
        other = np.full_like(lower, 0.22)
        ignored = 1 - lower - higher - 2 * other
        maps = np.stack([ignored, lower, higher, other, other])[None, :, None]
        alone = maps[:, 1:] / maps[:, 1:].sum(axis=1, keepdims=True)
        assert (alone.argmax(axis=1) == 0).any()
        after = argmax(build("suppress_background", classes=5, ignore=0).apply(maps, None))
        assert (after == 2).all()

    @pytest.mark.parametrize(
        ("spec", "ignore", "words"),
        [
            ("suppress_background", None, "give --ignore INDEX or write ignore=INDEX"),
            ("suppress_background(ignore=3)", 0, "expected a class from 0 to 2"),
            ("suppress_background(ignore=-1)", 0, "expected greater than or equal to 0"),
        ],
    )
    def test_refuses_a_class_that_is_not_there(self, spec, ignore, words):
        with pytest.raises(BadSpec, match=words):
            build(spec, classes=3, ignore=ignore)


class TestCRF:
    @settings(max_examples=10, deadline=None)
    @given(seed=seeds, classes=st.sampled_from([2, 5]))
    def test_without_kernels_is_the_identity(self, seed, classes):
        maps = vague_maps(seed, classes)
        step = build("crf(gaussian_compat=0, bilateral_compat=0)", classes=classes)
        np.testing.assert_allclose(step.apply(maps, None), maps, atol=1e-5)

    def test_needs_images_for_the_bilateral_kernel_only(self):
        assert build("crf", classes=2).needs_images
        assert not build("crf(bilateral_compat=0)", classes=2).needs_images

    def test_a_speck_in_a_plain_image_goes(self):
        maps = np.full((1, 2, 16, 16), 0.2, dtype=np.float32)
        maps[:, 0] = 0.8
        maps[0, :, 8, 8] = 0.4, 0.6
        image = np.full((1, 1, 16, 16), 100, dtype=np.uint8)
        assert argmax(maps).sum() == 1
        assert argmax(build("crf", classes=2).apply(maps, image)).sum() == 0

    def test_labels_move_to_the_edge_of_the_image(self):
        image = np.zeros((1, 1, 16, 16), dtype=np.uint8)
        image[..., 8:] = 200
        maps = np.full((1, 2, 16, 16), 0.3, dtype=np.float32)
        maps[:, 0, :, :6] = 0.7  # the edge is predicted two pixels too far left
        maps[:, 1, :, 6:] = 0.7
        labels = argmax(build("crf", classes=2).apply(maps, image))
        np.testing.assert_array_equal(labels, (image[:, 0] > 100).astype(np.uint8))

    def test_is_what_the_library_gives_for_one_image(self):
        maps = vague_maps(4, 3, (1, 6, 7))
        image = np.random.default_rng(5).integers(0, 256, (1, 3, 6, 7), dtype=np.uint8)
        field = dcrf.DenseCRF2D(7, 6, 3)
        field.setUnaryEnergy(-np.log(maps[0]).reshape(3, -1))
        field.addPairwiseGaussian(sxy=3, compat=3)
        colours = image[0].transpose(1, 2, 0).copy()
        field.addPairwiseBilateral(sxy=30, srgb=13, rgbim=colours, compat=10)
        expected = np.array(field.inference(10)).reshape(1, 3, 6, 7)
        library, ours = (
            build(spec, classes=3).apply(maps, image) for spec in ("crf(backend=pydensecrf)", "crf")
        )
        np.testing.assert_allclose(library, expected, atol=1e-6)
        np.testing.assert_allclose(ours, expected, atol=2e-4)
        assert not np.allclose(build("crf(iterations=1)", classes=3).apply(maps, image), expected)

    def test_a_grey_image_is_three_equal_channels(self):
        maps = vague_maps(1, 3)
        grey = np.random.default_rng(2).integers(0, 256, (2, 1, 6, 7), dtype=np.uint8)
        step = build("crf", classes=3)
        colour = step.apply(maps, grey.repeat(3, axis=1))
        np.testing.assert_array_equal(step.apply(maps, grey), colour)

    @pytest.mark.parametrize("channels", [1, 3])
    def test_takes_read_only_images(self, channels):
        image = np.zeros((2, channels, 1, 1), dtype=np.uint8)
        image.flags.writeable = False
        maps = vague_maps(0, 3, (2, 1, 1))
        maps.flags.writeable = False
        assert build("crf", classes=3).apply(maps, image).shape == maps.shape

    @pytest.mark.parametrize("size", [(1, 1), (1, 7), (9, 1), (5, 3)])
    @pytest.mark.parametrize("image", ["constant", "noise"])
    def test_gives_finite_maps_on_the_smallest_images(self, size, image):
        rng = np.random.default_rng(0)
        noise = rng.integers(0, 256, (2, 1, *size), dtype=np.uint8)
        images = noise if image == "noise" else np.full_like(noise, 255)
        result = build("crf", classes=3).apply(vague_maps(0, 3, (2, *size)), images)
        np.testing.assert_allclose(result.sum(axis=1), 1, atol=1e-5)

    def test_all_zero_maps_say_nothing(self):
        zeros = np.zeros((1, 4, 3, 3), dtype=np.float32)
        image = np.zeros((1, 1, 3, 3), dtype=np.uint8)
        np.testing.assert_allclose(build("crf", classes=4).apply(zeros, image), 0.25, atol=1e-6)

    @pytest.mark.parametrize(
        ("option", "words"),
        [
            ("iterations=0", "greater than or equal to 1"),
            ("iterations=1.5", "a valid integer"),
            ("gaussian_sxy=0", "greater than or equal to 0.1"),
            ("bilateral_sxy=-3", "greater than or equal to 0.1"),
            ("bilateral_srgb=0", "greater than or equal to 0.1"),
            ("bilateral_srgb=1e999", "a finite number"),
            ("gaussian_compat=-1", "greater than or equal to 0"),
            ("floor=0", "greater than 0"),
        ],
    )
    def test_refuses_an_option_out_of_range(self, option, words):
        with pytest.raises(BadSpec, match=words):
            build(f"crf({option})", classes=3)


class TestBlur:
    def test_keeps_how_much_of_each_class_there_is(self):
        maps = vague_maps(0, 3)
        smooth = build("blur(sigma=2)", classes=3).apply(maps, None)
        np.testing.assert_allclose(smooth.sum(axis=(2, 3)), maps.sum(axis=(2, 3)), rtol=1e-4)

    def test_a_wide_one_evens_everything_out(self):
        maps = vague_maps(0, 3)
        smooth = build("blur(sigma=50)", classes=3).apply(maps, None)
        mean = np.broadcast_to(maps.mean(axis=(2, 3), keepdims=True), maps.shape)
        np.testing.assert_allclose(smooth, mean, atol=1e-3)

    @pytest.mark.parametrize("sigma", ["0", "-1", "1e999", "wide"])
    def test_refuses_a_width_that_is_none(self, sigma):
        with pytest.raises(BadSpec, match="option 'sigma' got"):
            build(f"blur(sigma={sigma})", classes=3)


class TestMedian:
    def test_a_spike_goes_and_an_edge_stays(self):
        maps = np.full((1, 2, 5, 6), 0.2, dtype=np.float32)
        maps[:, 0, :, :3] = maps[:, 1, :, 3:] = 0.8
        spiked = maps.copy()
        spiked[0, :, 2, 4] = 0.8, 0.2
        result = build("median", classes=2).apply(spiked, None)
        np.testing.assert_allclose(result, maps, atol=1e-6)

    def test_where_three_certain_classes_meet_the_pixel_keeps_its_own(self):
        labels = np.array([[[0, 0, 1], [0, 2, 1], [2, 2, 1]]])
        maps = np.moveaxis(np.eye(3, dtype=np.float32)[labels], -1, 1)
        result = build("median", classes=3).apply(maps, None)
        np.testing.assert_array_equal(result[0, :, 1, 1], maps[0, :, 1, 1])

    def test_all_zero_maps_say_nothing(self):
        zeros = np.zeros((1, 4, 3, 3), dtype=np.float32)
        np.testing.assert_array_equal(build("median", classes=4).apply(zeros, None), 0.25)

    @pytest.mark.parametrize("size", [1, 2, 4, 7, -3])
    def test_refuses_a_window_that_opencv_has_not(self, size):
        with pytest.raises(BadSpec, match=f"option 'size' got {size}; expected 3 or 5"):
            build(f"median(size={size})", classes=3)
