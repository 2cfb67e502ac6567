"""The dense CRF on colour images: the lattice of colours, and the kernel against references."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from evaluation.core.blocks import map_blocks
from postproc.dense_crf import cpp_backend, grid
from postproc.dense_crf.grid import EDGES, lattice, simplices
from postproc.dense_crf.model import CrfParams, Kernel
from tests.postproc.crf_reference import FLOOR, build_crf

WIDE = "bilateral_sxy=5, bilateral_srgb=30, gaussian_sxy=1.2"


def scene(seed, classes, size, images=1):
    """Two colours with texture, and soft maps that know little of them."""
    rng = np.random.default_rng(seed)
    edge = np.add.outer(np.arange(size[0]), np.arange(size[1])) > sum(size) / 2
    away = np.array([60, -30, 20])[:, None, None]
    colours = 110 + away * edge + rng.normal(0, 6, (images, 3, *size))
    scores = rng.normal(0, 1.5, (images, classes, *size))
    scores[:, 0] += 1.5 * edge
    maps = np.exp(scores)
    maps /= maps.sum(axis=1, keepdims=True)
    return maps.astype(np.float32), colours.clip(0, 255).astype(np.uint8)


@pytest.mark.parametrize("quality", EDGES)
@pytest.mark.parametrize(
    ("classes", "size"),
    [(2, (1, 1)), (3, (1, 7)), (5, (13, 21)), (8, (9, 33)), (9, (12, 17)), (255, (5, 6))],
)
@pytest.mark.parametrize("options", ["", "gaussian_compat=0, bilateral_sxy=60", WIDE])
def test_the_compiled_kernel_equals_the_numpy_reference(options, classes, size, quality):
    maps, images = scene(1, classes, size, 2)
    ours, reference = (
        build_crf(f"crf(quality={quality}, backend={backend}, {options})", classes).apply(
            maps, images
        )
        for backend in ("ours", "reference")
    )
    np.testing.assert_allclose(ours, reference, atol=1e-4)


def test_ours_is_nearer_to_exact_than_pydensecrf_is():
    maps, _ = scene(2, 5, (32, 48), images=2)
    rng = np.random.default_rng(2)
    drawn = ndimage.gaussian_filter(rng.normal(0, 1, (2, 3, 32, 48)), 5, axes=(2, 3))
    colours = 128 + 45 * drawn / drawn.std() + rng.normal(0, 4, drawn.shape)
    images = colours.clip(0, 255).astype(np.uint8)
    full = build_crf("crf(backend=exact)", 5).apply(maps, images)
    off = {
        spec: np.abs(build_crf(f"crf({spec})", 5).apply(maps, images) - full).mean()
        for spec in ("backend=pydensecrf", "quality=default", "quality=high")
    }
    assert off["quality=default"] < 0.7 * off["backend=pydensecrf"]
    assert off["quality=high"] < 0.4 * off["backend=pydensecrf"]


def test_grey_and_colour_images_of_a_block_are_processed_apart():
    maps, images = scene(3, 3, (12, 14), 3)
    images[[0, 2]] = images[[0, 2], :1]
    together = build_crf("crf", 3).apply(maps, images)
    np.testing.assert_array_equal(together[[0, 2]], build_crf("crf", 3).apply(maps, images)[[0, 2]])
    np.testing.assert_array_equal(
        together[[0, 2]], build_crf("crf", 3).apply(maps[[0, 2]], images[[0, 2], :1])
    )
    np.testing.assert_array_equal(together[1:2], build_crf("crf", 3).apply(maps[1:2], images[1:2]))


@pytest.mark.parametrize("classes", [3, 17])
def test_images_of_too_many_cells_are_processed_in_tiles(classes, monkeypatch):
    maps, images = scene(4, classes, (40, 70), 2)
    images[1] = np.random.default_rng(5).integers(0, 256, images[1].shape)
    step = build_crf("crf(bilateral_sxy=4, bilateral_srgb=12)", classes)
    whole = step.apply(maps, images)
    monkeypatch.setattr(cpp_backend, "MAX_CELLS", 25_000)
    kernel = Kernel(4.0, -10 * np.eye(classes, dtype=np.float32), srgb=12.0)
    params = CrfParams(classes, (kernel,), 2, FLOOR)
    _, done = cpp_backend.infer_whole(maps, images, params, "default", max_cells=25_000)
    assert done.tolist() == [True, False]
    tiles = step.apply(maps, images)
    np.testing.assert_array_equal(tiles[0], whole[0])
    assert 0 < np.abs(tiles[1] - whole[1]).mean() < 5e-3


def test_a_matrix_is_read_as_the_reference_reads_it():
    maps, images = scene(6, 3, (10, 12))
    costs = "[[0, 1, 5], [1, 0, 2], [5, 2, 1]]"
    ours, reference = (
        build_crf(f"crf(backend={backend}, bilateral_compat={costs})", 3).apply(maps, images)
        for backend in ("ours", "reference")
    )
    np.testing.assert_allclose(ours, reference, atol=1e-4)


def test_images_of_one_colour_are_near_exact():
    maps, images = scene(7, 4, (11, 19))
    images[:] = np.array([255, 0, 90], np.uint8)[:, None, None]
    ours, full = (
        build_crf(f"crf(backend={backend})", 4).apply(maps, images) for backend in ("ours", "exact")
    )
    np.testing.assert_allclose(ours, full, atol=0.01)


class TestLattice:
    @settings(max_examples=50)
    @given(st.lists(st.floats(0, 255), min_size=3, max_size=3), st.floats(0.01, 30))
    def test_a_colour_is_the_weighted_mean_of_its_corners(self, colour, scale):
        corners, weights = simplices(np.array([colour]), scale)
        a, b, c = np.array(colour) * scale / np.sqrt([2, 6, 12])
        mean = (corners[0] * weights[0][:, None]).sum(axis=0)
        np.testing.assert_allclose(mean, [c + b + a, c + b - a, c - 2 * b, -3 * c], atol=1e-6)
        assert weights.min() >= -1e-9
        assert (corners.sum(axis=-1) == 0).all()

    @pytest.mark.parametrize("quality", EDGES)
    def test_steps_go_both_ways_with_the_same_weight(self, quality):
        found = lattice(13.0, quality)
        taps = {tuple(step): tap for step, tap in zip(found.steps, found.taps, strict=True)}
        assert all(taps[tuple(-np.array(step))] == tap for step, tap in taps.items())
        assert max(taps, key=lambda step: taps[step]) == (0, 0, 0, 0)

    @pytest.mark.parametrize(("quality", "most"), [("default", 0.13), ("high", 0.08)])
    def test_taps_make_a_gaussian(self, quality, most):
        """What a colour receives from another, over drawn pairs."""
        rng = np.random.default_rng(8)
        found = lattice(1.0, quality)
        here = rng.uniform(-3, 3, (2000, 3))
        there = here + rng.normal(0, 1, here.shape)
        (near, some), (far, others) = (simplices(each, found.scale) for each in (here, there))
        taps = {tuple(step): tap for step, tap in zip(found.steps, found.taps, strict=True)}
        apart = near[:, :, None] - far[:, None]
        blurred = np.reshape([taps.get(tuple(a), 0) for a in apart.reshape(-1, 4)], apart.shape[:3])
        received = (blurred * some[:, :, None] * others[:, None]).sum(axis=(1, 2))
        expected = np.exp(-((here - there) ** 2).sum(axis=1) / 2)
        assert np.abs(received - expected).max() < 2 * most
        assert np.abs(received - expected).mean() < most / 3


@pytest.mark.parametrize("quality", grid.POSITION_WITH_COLOUR)
def test_blocks_equal_their_images_one_by_one(quality):
    maps, images = scene(9, 3, (12, 14), 4)
    step = build_crf(f"crf(quality={quality})", 3)
    alone = [step.apply(maps[i : i + 1], images[i : i + 1]) for i in range(4)]
    np.testing.assert_array_equal(np.concatenate(alone), step.apply(maps, images))


def many_colours(size, seed=0):
    """Smooth colours with noise: most pixels have a colour of their own."""
    rng = np.random.default_rng(seed)
    smooth = ndimage.gaussian_filter(rng.normal(size=(3, *size)), (0, 6, 6))
    colours = 20 + 200 * (smooth - smooth.min()) / np.ptp(smooth) + rng.normal(0, 6, smooth.shape)
    return colours.clip(0, 255).astype(np.uint8)[None]


@pytest.fixture(scope="module")
def errors_of_kernels():
    """Mean distances from exact, by kernel, on colours of noise: most pixels have one alone.

    Of several images, since in one a few regions decide that may fall to either class.
    """
    maps, _ = scene(10, 4, (48, 48), images=6)
    images = np.concatenate([many_colours((48, 48), seed) for seed in range(6)])
    errors = {}
    for sxy, srgb in ((5, 13), (10, 5), (10, 13), (15, 13), (30, 5), (30, 13)):
        kernel = f"bilateral_sxy={sxy}, bilateral_srgb={srgb}"
        full = build_crf(f"crf({kernel}, backend=exact)", 4).apply(maps, images)
        errors[sxy, srgb] = [
            float(np.abs(build_crf(f"crf({kernel}, {how})", 4).apply(maps, images) - full).mean())
            for how in ("backend=pydensecrf", "quality=default", "quality=high")
        ]
    return errors


def test_no_kernel_is_farther_from_exact_than_pydensecrf(errors_of_kernels):
    for kernel, (library, default, high) in errors_of_kernels.items():
        assert default < library, kernel
        assert high < 0.8 * library, kernel


def test_high_quality_is_nearer_to_exact_than_the_default(errors_of_kernels):
    library, default, high = np.mean(list(errors_of_kernels.values()), axis=0)
    assert high < 0.7 * default < 0.7 * library


def test_threads_do_not_change_the_result():
    maps, images = scene(11, 3, (20, 37), 4)
    step = build_crf("crf", 3)
    parts = map_blocks(lambda b: step.apply(maps[b], images[b]), 4, size=1, threads=3)
    np.testing.assert_array_equal(np.concatenate(list(parts)), step.apply(maps, images))
