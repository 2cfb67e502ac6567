"""The dense CRF in torch, on the processor: it gives what the compiled kernel gives."""

import numpy as np
import pytest
import torch

from evaluation.core.errors import BadSpec
from postproc.chain import parse_chain
from postproc.dense_crf import torch_backend
from postproc.dense_crf.model import Kernel
from tests.postproc.crf_reference import build_crf


def scene(seed, classes, size, images):
    """Smooth grey images, each of other levels than the next, and soft maps."""
    rng = np.random.default_rng(seed)
    slope = np.add.outer(np.arange(size[0]), 2 * np.arange(size[1])) % 90
    level = rng.integers(0, 120, (images, 1, 1, 1))
    greys = (slope + level + rng.integers(0, 30, (images, 1, *size))).astype(np.uint8)
    maps = np.exp(rng.normal(0, 1, (images, classes, *size)))
    maps /= maps.sum(axis=1, keepdims=True)
    return maps.astype(np.float32), greys


@pytest.mark.parametrize("quality", ["default", "high"])
@pytest.mark.parametrize(
    ("classes", "size", "images"),
    [(2, (1, 1), 1), (3, (1, 7), 2), (5, (13, 21), 3), (9, (12, 17), 2), (255, (5, 6), 2)],
)
@pytest.mark.parametrize(
    "options", ["", "bilateral_compat=0", "gaussian_compat=0, bilateral_srgb=40"]
)
def test_torch_equals_the_numpy_reference(options, classes, size, images, quality):
    maps, greys = scene(1, classes, size, images)
    found, reference = (
        build_crf(f"crf(backend={backend}, quality={quality}, {options})", classes).apply(
            maps, greys
        )
        for backend in ("torch", "reference")
    )
    np.testing.assert_allclose(found, reference, atol=1e-4)


def test_is_near_exact():
    maps, greys = scene(2, 4, (30, 40), 2)
    found, full, library = (
        build_crf(f"crf(backend={backend})", 4).apply(maps, greys)
        for backend in ("torch", "exact", "pydensecrf")
    )
    assert np.abs(found - full).mean() < np.abs(library - full).mean() / 2


def test_a_matrix_is_read_as_the_reference_reads_it():
    maps, greys = scene(3, 3, (9, 12), 2)
    costs = "[[0, 1, 5], [1, 0, 2], [5, 2, 1]]"
    found, reference = (
        build_crf(f"crf(backend={backend}, gaussian_compat={costs})", 3).apply(maps, greys)
        for backend in ("torch", "reference")
    )
    np.testing.assert_allclose(found, reference, atol=1e-4)


def test_images_in_colour_go_through_the_compiled_kernel():
    maps, greys = scene(4, 3, (9, 12), 2)
    images = greys.repeat(3, axis=1)
    images[:, 0] //= 2
    found, ours = (
        build_crf(f"crf(backend={backend})", 3).apply(maps, images) for backend in ("torch", "ours")
    )
    np.testing.assert_array_equal(found, ours)


def test_it_computes_on_the_device_that_is_chosen(monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    maps, greys = scene(5, 3, (9, 12), 2)
    labels = parse_chain("crf(backend=torch)", classes=3, ignore=None, device="cpu")(maps, greys)
    assert labels.shape == (2, 9, 12)
    chain = parse_chain("crf(backend=torch)", classes=3, ignore=None, device="cuda:7")
    with pytest.raises(BadSpec, match="unknown device 'cuda:7'; here: auto, cpu, cuda:0, cuda:1"):
        chain(maps, greys)


def test_the_grid_is_built_on_the_device():
    kernel = Kernel(30.0, np.eye(3, dtype=np.float32), srgb=13.0)
    _, greys = scene(6, 3, (9, 12), 2)
    built = torch_backend._build_grid(kernel, (9, 12), greys, "default", "meta")
    assert {part.device.type for part in (built.index, built.weight, built.scale)} == {"meta"}
