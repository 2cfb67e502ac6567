"""The fully connected conditional random field: labels drawn to the edges of the image."""

from collections.abc import Callable
from typing import Annotated, Literal

import numpy as np
from jaxtyping import Float
from pydantic import Field

from evaluation.core.errors import BadSpec
from evaluation.core.types import Images, Kept, Map
from postproc.dense_crf.grid import Quality
from postproc.dense_crf.model import Kernel, Model
from postproc.step import Step

Sigma = Annotated[float, Field(ge=0.1, allow_inf_nan=False)]
Weight = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Cost = Annotated[float, Field(allow_inf_nan=False)]
Compat = Weight | list[list[Cost]]
Backend = Literal["ours", "torch", "pydensecrf", "exact", "numpy"]
Infer = Callable[[Map, Images | None], Map]
Costs = Float[np.ndarray, "class other"]

RGB = 3
SMALLEST_NORMAL = 2.0**-126


def crf(
    classes: int,
    *,
    iterations: Annotated[int, Field(ge=1)] = 10,
    gaussian_sxy: Sigma = 3.0,
    gaussian_compat: Compat = 3.0,
    bilateral_sxy: Sigma = 30.0,
    bilateral_srgb: Sigma = 13.0,
    bilateral_compat: Compat = 10.0,
    floor: Annotated[float, Field(gt=0, lt=1)] = 2.0**-25,
    quality: Quality = "default",
    backend: Backend = "ours",
) -> Step:
    """Draw labels to the edges of the image: pixels near in place and colour want the same label.

    A grey image counts as three equal channels, as is usual, so published settings mean the same
    here; one grey level of difference then weighs as three. A kernel with compat 0 is left out, and
    without the bilateral one no images are needed.

    A pixel with label a pays compat for each neighbour with another label, or, where compat is a
    symmetric matrix [[...], ...], its entry (a, b) for a neighbour with label b.

    Args:
        classes: how many there are.
        iterations: of mean-field inference; an image whose probabilities have settled stops early.
        gaussian_sxy: reach of the kernel on place alone, in pixels.
        gaussian_compat: its weight.
        bilateral_sxy: reach of the kernel on place and colour, in pixels.
        bilateral_srgb: its reach in colour, in grey levels of 0 to 255.
        bilateral_compat: its weight.
        floor: probabilities below this are raised to it before the logarithm.
        quality: of backend `ours`: `high` has finer cells, nearer to exact, and takes longer.
        backend: `ours`, compiled (images of very many colours for small kernels go to
            pydensecrf); `torch`, the same for blocks of grey images on a GPU, those in colour go
            through `ours`; `pydensecrf`; `exact`, the referee, full kernels in float64 for images
            of at most 10,000 pixels, a second or more an image; `numpy`, what `ours` computes,
            slowly.

    Source: Krähenbühl and Koltun, "Efficient Inference in Fully Connected CRFs with Gaussian Edge
        Potentials", NIPS 2011.
    """
    gaussian = _costs("gaussian_compat", gaussian_compat, classes)
    bilateral = _costs("bilateral_compat", bilateral_compat, classes)
    kernels = (
        Kernel(gaussian_sxy, gaussian),
        Kernel(bilateral_sxy, bilateral, srgb=bilateral_srgb),
    )
    used = tuple(kernel for kernel in kernels if kernel.costs.any())
    # Smaller numbers are not told apart by the kernel's logarithm.
    model = Model(classes, used, iterations, max(floor, SMALLEST_NORMAL))
    infer = _backend(backend, model, quality)
    in_colour = bool(bilateral.any())

    def apply(maps: Map, images: Images | None) -> Map:
        return infer(maps, images if in_colour else None)

    return Step("maps", "maps", apply, needs_images=in_colour)


def _costs(option: str, compat: Compat, classes: int) -> Costs:
    """Return what pairs of labels cost; Potts' weight as a reward for equal ones."""
    if isinstance(compat, int | float):
        return np.float32(-compat) * np.eye(classes, dtype=np.float32)
    shape = f"{len(compat)} rows of {' or '.join(map(str, sorted({len(row) for row in compat})))}"
    if [len(row) for row in compat] != [classes] * classes:
        raise BadSpec(f"{option} has {shape}; expected {classes} rows of {classes}, or one number")
    costs: Costs = np.array(compat, dtype=np.float32)
    if not np.array_equal(costs, costs.T):
        raise BadSpec(f"{option} is not symmetric; expected the same cost for (a, b) and (b, a)")
    return costs


def _backend(name: Backend, model: Model, quality: Quality) -> Infer:
    if name == "exact":
        from postproc.dense_crf import exact

        return lambda maps, images: exact.infer(maps, images, model)
    if name == "pydensecrf":
        return lambda maps, images: _by_library(maps, images, model)
    return _ours(name, model, quality)


def _ours(name: Backend, model: Model, quality: Quality) -> Infer:
    in_colour = _grid(name, model, quality)
    in_grey = _on_gpu(model, quality) if name == "torch" else in_colour

    def choose(maps: Map, images: Images | None) -> Map:
        if images is None:
            return in_grey(maps, None)
        grey: Kept = (images == images[:, :1]).all(axis=(1, 2, 3))
        if grey.all():
            return in_grey(maps, images[:, :1])
        result = np.empty(maps.shape, np.float32)
        for kind, channels, infer in ((grey, 1, in_grey), (~grey, RGB, in_colour)):
            if kind.any():
                result[kind] = infer(maps[kind], images[kind, :channels])
        return result

    return choose


def _grid(name: Backend, model: Model, quality: Quality) -> Infer:
    if name == "numpy":
        from postproc.dense_crf import twin

        return lambda maps, images: twin.infer(maps, images, model, quality)
    from postproc.dense_crf import cpp_backend

    cpp_backend.load()

    def infer(maps: Map, images: Images | None) -> Map:
        result, done = cpp_backend.infer(maps, images, model, quality)
        if images is not None and not done.all():
            result[~done] = _by_library(maps[~done], images[~done], model)
        return result

    return infer


def _on_gpu(model: Model, quality: Quality) -> Infer:
    from postproc.dense_crf import torch_backend

    return lambda maps, images: torch_backend.infer(maps, images, model, quality)


def _by_library(maps: Map, images: Images | None, model: Model) -> Map:
    from postproc.dense_crf import pydensecrf_backend

    return pydensecrf_backend.infer(maps, images, model)
