"""The dense CRF: the compiled kernel against NumPy, the exact field and pydensecrf."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from evaluation.core.blocks import map_blocks
from evaluation.core.errors import BadMaps, BadSpec
from postproc.dense_crf import cpp_backend, exact
from postproc.dense_crf.grid import WIDTHS, axes
from postproc.dense_crf.model import CrfParams, Kernel
from tests.postproc.crf_reference import FLOOR, build_crf


def scene(seed, classes, size, images=1):
    """A grey image in two tones with texture, and soft maps that know little of it."""
    rng = np.random.default_rng(seed)
    edge = np.add.outer(np.arange(size[0]), np.arange(size[1])) > sum(size) / 2
    grey = 80 + 60 * edge + rng.normal(0, 6, (images, *size))
    scores = rng.normal(0, 1.5, (images, classes, *size))
    scores[:, 0] += 1.5 * edge
    maps = np.exp(scores)
    maps /= maps.sum(axis=1, keepdims=True)
    return maps.astype(np.float32), grey.clip(0, 255).astype(np.uint8)[:, None]


SHAPES = [
    (2, (1, 1)),
    (3, (1, 7)),
    (5, (13, 21)),
    (5, (70, 97)),
    (8, (9, 33)),
    (9, (12, 17)),
    (255, (5, 6)),
]


@pytest.mark.parametrize("quality", WIDTHS)
@pytest.mark.parametrize(("classes", "size"), SHAPES)
@pytest.mark.parametrize(
    "options",
    [
        "",
        ", bilateral_sxy=5, bilateral_srgb=30, gaussian_sxy=1.2",
        ", bilateral_compat=0",
        ", gaussian_compat=0, bilateral_sxy=60, bilateral_srgb=2",
    ],
)
def test_the_compiled_kernel_equals_the_numpy_reference(options, classes, size, quality):
    maps, image = scene(1, classes, size)
    ours, reference = (
        build_crf(f"crf(quality={quality}, backend={backend}{options})", classes).apply(maps, image)
        for backend in ("ours", "reference")
    )
    np.testing.assert_allclose(ours, reference, atol=1e-4)


@pytest.mark.parametrize("fill", [0, 128, 255])
def test_a_constant_image_gives_what_the_reference_gives(fill):
    maps, image = scene(2, 4, (11, 19))
    image[:] = fill
    ours, reference, full = (
        build_crf(f"crf(backend={backend})", 4).apply(maps, image)
        for backend in ("ours", "reference", "exact")
    )
    np.testing.assert_allclose(ours, reference, atol=1e-4)
    np.testing.assert_allclose(ours, full, atol=0.01)


def test_maps_of_uint8_quanta_and_of_zeros_stay_maps():
    maps, image = scene(3, 3, (8, 8))
    coarse = np.round(maps * 255).astype(np.float32) / np.float32(255)
    coarse[..., :4] = 0
    ours, reference = (
        build_crf(f"crf(backend={backend}, floor=0.002)", 3).apply(coarse, image)
        for backend in ("ours", "reference")
    )
    np.testing.assert_allclose(ours.sum(axis=1), 1, atol=1e-5)
    np.testing.assert_allclose(ours, reference, atol=1e-4)


class TestMatrix:
    def test_potts_is_a_matrix_with_equal_costs(self):
        maps, image = scene(4, 3, (10, 12))
        costs = (10.0 * (1 - np.eye(3))).tolist()
        for backend in ("ours", "reference", "exact"):
            number = build_crf(f"crf(backend={backend})", 3).apply(maps, image)
            matrix = build_crf(f"crf(backend={backend}, bilateral_compat={costs})", 3)
            np.testing.assert_allclose(matrix.apply(maps, image), number, atol=1e-4)

    @pytest.mark.parametrize("classes", [3, 9])
    @pytest.mark.parametrize("backend", ["reference", "pydensecrf"])
    def test_other_backends_read_a_cost_matrix_alike(self, backend, classes):
        maps, image = scene(5, classes, (6, 7))
        drawn = np.random.default_rng(6).uniform(0, 2, (classes, classes))
        costs = (drawn + drawn.T).round(2).tolist()
        options = f"gaussian_compat={costs}, bilateral_compat={costs}, iterations=2"
        ours, other = (
            build_crf(f"crf(backend={name}, {options})", classes).apply(maps, image)
            for name in ("ours", backend)
        )
        np.testing.assert_allclose(ours, other, atol=1e-4 if backend == "reference" else 0.05)
        assert np.abs(ours - maps).max() > 0.1

    @pytest.mark.parametrize(
        ("costs", "words"),
        [
            ("[[0, 1], [1, 0]]", "bilateral_compat has 2 rows of 2; expected 3 rows of 3"),
            ("[[0, 1], [1, 0, 2], [0, 0, 0]]", "bilateral_compat has 3 rows of 2 or 3"),
            ("[[0, 1, 2], [1, 0, 1], [1, 1, 0]]", "bilateral_compat is not symmetric"),
        ],
    )
    def test_a_cost_matrix_of_another_shape_is_refused(self, costs, words):
        with pytest.raises(BadSpec, match=words):
            build_crf(f"crf(bilateral_compat={costs})", 3)


class TestExact:
    def test_the_exact_backend_sums_over_all_pairs(self):
        """One iteration by three loops."""
        maps, image = scene(7, 2, (3, 4))
        place = np.indices((3, 4)).reshape(2, -1).T
        grey = image.ravel().astype(float)
        logs = np.log(maps.reshape(2, -1).astype(np.float64))
        scores = logs.copy()
        for sxy, srgb, weight in ((3, np.inf, 3), (30, 13, 10)):
            k = np.empty((12, 12))
            for i in range(12):
                for j in range(12):
                    apart = ((place[i] - place[j]) ** 2).sum() / sxy**2
                    k[i, j] = np.exp(-(apart + 3 * (grey[i] - grey[j]) ** 2 / srgb**2) / 2)
            scale = 1 / np.sqrt(k.sum(axis=1))
            scores += weight * (np.exp(logs) * scale) @ k * scale
        expected = np.exp(scores) / np.exp(scores).sum(axis=0)
        found = build_crf("crf(backend=exact, iterations=1)", 2).apply(maps, image)
        np.testing.assert_allclose(found.reshape(2, -1), expected, atol=1e-6)

    def test_ours_is_nearer_to_exact_than_pydensecrf_is(self):
        maps, image = scene(8, 5, (48, 64), images=3)
        full = build_crf("crf(backend=exact)", 5).apply(maps, image)
        off = {
            spec: np.abs(build_crf(f"crf({spec})", 5).apply(maps, image) - full).mean()
            for spec in ("backend=pydensecrf", "quality=default", "quality=high")
        }
        assert off["quality=default"] <= off["backend=pydensecrf"] / 2
        assert off["quality=high"] <= off["backend=pydensecrf"] / 4

    def test_the_exact_backend_refuses_large_images(self):
        maps = np.full((1, 2, 101, 100), 0.5, dtype=np.float32)
        with pytest.raises(BadMaps, match="maps of 10100 pixels; expected at most 10000"):
            exact.infer(maps, None, CrfParams(2, (), 1, FLOOR))


def test_the_kernel_on_position_alone_needs_no_images():
    maps, _ = scene(9, 3, (9, 9))
    ours, full = (
        build_crf(f"crf(bilateral_compat=0, backend={backend})", 3).apply(maps, None)
        for backend in ("ours", "exact")
    )
    np.testing.assert_allclose(ours, full, atol=0.02)


@settings(max_examples=10, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), images=st.integers(1, 4))
def test_threads_do_not_change_the_result(seed, images):
    maps, greys = scene(seed, 5, (17, 40), images)
    step = build_crf("crf", 5)
    whole = step.apply(maps, greys)
    parts = map_blocks(lambda b: step.apply(maps[b], greys[b]), images, size=1, threads=3)
    np.testing.assert_array_equal(np.concatenate(list(parts)), whole)


def test_probabilities_that_barely_move_at_first_are_not_taken_for_converged():
    """Probabilities that hardly move at first, but each time more than before."""
    maps = np.full((1, 2, 16, 16), 0.5, dtype=np.float32)
    maps[:, 0] += np.float32(1e-6)
    maps[:, 1] -= np.float32(1e-6)
    image = np.full((1, 1, 16, 16), 90, dtype=np.uint8)
    ours, reference = (
        build_crf(f"crf(backend={backend})", 2).apply(maps, image)
        for backend in ("ours", "reference")
    )
    assert ours[0, 0].min() > 0.99
    np.testing.assert_allclose(ours, reference, atol=1e-4)


@pytest.mark.parametrize("quality", WIDTHS)
@pytest.mark.parametrize("sigma", [0.1, 0.7, 1.0, 2.2, 3.0, 7.5, 30.0, 61.3, 5000.0])
def test_taps_make_a_gaussian_of_two_interpolations(sigma, quality):
    """What a pixel receives from another, over all pairs of a stretch, normalised."""
    axis, _ = axes(Kernel(sigma, np.eye(2, dtype=np.float32)), quality)
    length = min(300, int(6 * sigma) + 2)
    value = np.arange(length)
    hats = np.maximum(0, 1 - np.abs(value[:, None] / axis.step - np.arange(axis.cells(length))))
    apart = np.abs(np.subtract.outer(*[np.arange(axis.cells(length))] * 2))
    blur = np.where(apart < len(axis.taps), axis.taps[np.minimum(apart, len(axis.taps) - 1)], 0)
    scale = axis.scales(length)
    found = scale[:, None] * (hats @ blur @ hats.T) * scale
    full = np.exp(-(np.subtract.outer(value, value) ** 2) / (2 * sigma**2))
    expected = full / np.sqrt(np.outer(full.sum(axis=0), full.sum(axis=0)))
    assert np.abs(found - expected).max() < 0.19 * expected.max()


def test_a_missing_compiled_kernel_is_reported(monkeypatch, tmp_path):
    monkeypatch.setattr(cpp_backend, "LIBRARY", tmp_path / "kernel.so")
    cpp_backend.load_kernel.cache_clear()
    with pytest.raises(BadSpec, match=r"run `pip install -e \.` in the source folder"):
        build_crf("crf", 2)
    assert build_crf("crf(backend=pydensecrf)", 2)
    cpp_backend.load_kernel.cache_clear()


BACKENDS = ["ours", "torch", "reference", "pydensecrf", "exact"]


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("iterations", 0),
        ("gaussian_sxy", -1),
        ("bilateral_sxy", 0),
        ("bilateral_srgb", -13),
        ("bilateral_compat", -1),
        ("floor", 0),
        ("quality", "low"),
        ("backend", "numba"),
        ("backend", "numpy"),
    ],
)
def test_a_bad_value_is_refused_by_its_options_name(option, value):
    with pytest.raises(BadSpec, match=option):
        build_crf(f"crf({option}={value})")


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("channels", [1, 3])
def test_zero_weights_change_nothing(backend, channels):
    rng = np.random.default_rng(0)
    maps = rng.dirichlet(np.ones(3), (2, 5, 7)).transpose(0, 3, 1, 2).astype(np.float32)
    images = rng.integers(0, 256, (2, channels, 5, 7), np.uint8)
    step = build_crf(f"crf(gaussian_compat=0, bilateral_compat=0, backend={backend})")
    np.testing.assert_allclose(step.apply(maps, images), maps, atol=1e-6)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("channels", [1, 3])
def test_all_zero_maps_become_even(backend, channels):
    images = np.random.default_rng(1).integers(90, 110, (1, channels, 6, 5), np.uint8)
    found = build_crf(f"crf(backend={backend})").apply(np.zeros((1, 3, 6, 5), np.float32), images)
    np.testing.assert_allclose(found, 1 / 3, atol=1e-5)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("backend", ["ours", "torch", "pydensecrf", "exact"])
@pytest.mark.parametrize(
    "options",
    [
        "gaussian_sxy=0.1, bilateral_sxy=0.1, bilateral_srgb=0.1",
        "gaussian_sxy=10000, bilateral_sxy=10000, bilateral_srgb=10000",
        "gaussian_compat=1e6, bilateral_compat=1e6, floor=1e-45",
        "bilateral_compat=[[-1e6, 1e6], [1e6, -1e6]], floor=0.9999999",
    ],
)
def test_options_at_their_bounds_give_maps(options, backend, channels):
    maps, image = scene(5, 2, (9, 14))
    images = np.random.default_rng(0).integers(0, 256, (1, 3, 9, 14), np.uint8)
    found = build_crf(f"crf(backend={backend}, {options})", 2).apply(
        maps, image if channels == 1 else images
    )
    np.testing.assert_allclose(found.sum(axis=1), 1, atol=1e-5)
