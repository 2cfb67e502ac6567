"""The fully connected conditional random field: labels aligned with the edges of the image."""

from collections.abc import Callable
from typing import Annotated, Literal

import numpy as np
from jaxtyping import Float
from pydantic import Field

from evaluation.core.errors import BadSpec
from evaluation.core.types import Images, Kept, Map
from postproc.dense_crf.grid import Quality
from postproc.dense_crf.model import RGB, CrfParams, Kernel
from postproc.projection import project_to_rgb
from postproc.step import Step

MAX_SIGMA, MAX_COST = 10_000, 1e6
"""Beyond the size of any image and the range of any colour; the kernels compute in 32 bits."""

Sigma = Annotated[float, Field(ge=0.1, le=MAX_SIGMA)]
Weight = Annotated[float, Field(ge=0, le=MAX_COST)]
Cost = Annotated[float, Field(ge=-MAX_COST, le=MAX_COST)]
Compat = Weight | list[list[Cost]]
Backend = Literal["ours", "torch", "pydensecrf", "exact"]
Infer = Callable[[Map, Images | None], Map]
Costs = Float[np.ndarray, "class other"]

SMALLEST_NORMAL = 2.0**-126
"""Of float32; the logarithm of the compiled kernel does not tell smaller numbers apart."""


def crf(
    classes: int,
    device: str = "auto",
    *,
    iterations: Annotated[int, Field(ge=1, le=10_000)] = 10,
    gaussian_sxy: Sigma = 3.0,
    gaussian_compat: Compat = 3.0,
    bilateral_sxy: Sigma = 30.0,
    bilateral_srgb: Sigma = 13.0,
    bilateral_compat: Compat = 10.0,
    floor: Annotated[float, Field(gt=0, lt=1)] = 2.0**-25,
    quality: Quality = "default",
    projection: Literal["pca"] | None = None,
    backend: Backend = "ours",
) -> Step:
    """Align labels with the edges of the image: near pixels of similar colour prefer one label.

    A grey image counts as three equal channels, as is usual, so that published settings keep their
    meaning; one grey level of difference then counts as three. A kernel with compat 0 is left out;
    without the bilateral one no images are needed.

    A pixel with label a pays compat for each neighbour with another label, or, where compat is a
    symmetric matrix [[...], ...], its entry (a, b) for a neighbour with label b.

    Args:
        iterations: of mean-field inference; an image whose probabilities have converged stops
            early.
        gaussian_sxy: standard deviation of the kernel on position alone, in pixels.
        gaussian_compat: its weight.
        bilateral_sxy: standard deviation of the position in the kernel on position and colour, in
            pixels.
        bilateral_srgb: standard deviation of the colour in it, in grey levels of 0 to 255.
        bilateral_compat: its weight.
        floor: lower bound of probabilities before the logarithm.
        quality: of backend `ours`: `high` has finer cells, nearer to exact, and takes longer.
        projection: of images of neither 1 nor 3 channels, which are refused otherwise: `pca`, each
            image's three principal components, see `postproc.projection`.
        backend: `ours`, compiled (large images with very many colours go in tiles that overlap);
            `torch`, the same for blocks of grey images on a GPU, colour images go
            through `ours`; `pydensecrf`; `exact`, the full kernels in float64 for images of at
            most 10,000 pixels, a second or more per image.

    References:
        Krähenbühl and Koltun, "Efficient Inference in Fully Connected CRFs with Gaussian Edge
        Potentials", NIPS 2011.

    Examples:
        A pixel that differs from its surroundings in a homogeneous image takes their label.

        >>> maps = np.full((1, 2, 9, 9), 0.2, np.float32)
        >>> maps[:, 0] = 0.8
        >>> maps[0, :, 4, 4] = 0.4, 0.6
        >>> image = np.full((1, 1, 9, 9), 100, np.uint8)
        >>> crf(2).apply(maps, image)[0, :, 4, 4].argmax()
        np.int64(0)
    """
    gaussian = _costs("gaussian_compat", gaussian_compat, classes)
    bilateral = _costs("bilateral_compat", bilateral_compat, classes)
    kernels = (
        Kernel(gaussian_sxy, gaussian),
        Kernel(bilateral_sxy, bilateral, srgb=bilateral_srgb),
    )
    used = tuple(kernel for kernel in kernels if kernel.costs.any())
    params = CrfParams(classes, used, iterations, max(floor, SMALLEST_NORMAL))
    infer = _backend(backend, params, quality, device)
    needs_images = bool(bilateral.any())

    def apply(maps: Map, images: Images | None) -> Map:
        if not needs_images or images is None:
            return infer(maps, None)
        if images.shape[1] not in (1, RGB):
            images = project_to_rgb(images)
        return infer(maps, images)

    return Step(
        "maps", "maps", apply, needs_images=needs_images, any_channels=projection is not None
    )


def _costs(option: str, compat: Compat, classes: int) -> Costs:
    """Return the cost of each pair of labels; a Potts weight becomes a reward for equal ones."""
    if isinstance(compat, int | float):
        return np.float32(-compat) * np.eye(classes, dtype=np.float32)
    shape = f"{len(compat)} rows of {' or '.join(map(str, sorted({len(row) for row in compat})))}"
    if [len(row) for row in compat] != [classes] * classes:
        raise BadSpec(f"{option} has {shape}; expected {classes} rows of {classes}, or one number")
    costs: Costs = np.array(compat, dtype=np.float32)
    if not np.array_equal(costs, costs.T):
        raise BadSpec(f"{option} is not symmetric; expected the same cost for (a, b) and (b, a)")
    return costs


def _backend(name: Backend, params: CrfParams, quality: Quality, device: str) -> Infer:
    """Return the inference of a backend; what it needs is imported here."""
    if name == "exact":
        from postproc.dense_crf import exact

        return lambda maps, images: exact.infer(maps, images, params)
    if name == "pydensecrf":
        return lambda maps, images: _infer_by_pydensecrf(maps, images, params)
    in_colour = _compiled(params, quality)
    if name == "torch":
        from postproc.dense_crf import torch_backend

        return _grey_apart(
            lambda maps, images: torch_backend.infer(maps, images, params, quality, device),
            in_colour,
        )
    return _grey_apart(in_colour, in_colour)


def _grey_apart(in_grey: Infer, in_colour: Infer) -> Infer:
    """Return the inference of blocks that may contain grey images stored as three channels."""

    def infer(maps: Map, images: Images | None) -> Map:
        if images is None:
            return in_grey(maps, None)
        grey: Kept = (images == images[:, :1]).all(axis=(1, 2, 3))
        if grey.all():
            return in_grey(maps, images[:, :1])
        if not grey.any():
            return in_colour(maps, images[:, :RGB])
        result = np.empty(maps.shape, np.float32)
        for chosen, channels, run in ((grey, 1, in_grey), (~grey, RGB, in_colour)):
            if chosen.any():
                result[chosen] = run(maps[chosen], images[chosen, :channels])
        return result

    return infer


def _compiled(params: CrfParams, quality: Quality) -> Infer:
    from postproc.dense_crf import cpp_backend

    cpp_backend.load_kernel()

    return lambda maps, images: cpp_backend.infer(maps, images, params, quality)


def _infer_by_pydensecrf(maps: Map, images: Images | None, params: CrfParams) -> Map:
    from postproc.dense_crf import pydensecrf_backend

    return pydensecrf_backend.infer(maps, images, params)
