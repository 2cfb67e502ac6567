"""The referee: mean-field with the full kernels, pixels x pixels, in float64."""

from collections.abc import Callable

import numpy as np
from jaxtyping import Float, Shaped

from evaluation.core.errors import BadMaps
from evaluation.core.types import Array, Images, Map
from postproc.dense_crf.model import (
    Kernel,
    Model,
    softmax,
    unary,
)

MOST_PIXELS = 10_000  # 800 MB a kernel
CHUNK = 256
RGB = 3

Full = Float[np.ndarray, "pixel pixel"]
Features = Float[np.ndarray, "pixel feature"]
Filter = Callable[[Shaped[np.ndarray, "class row col"]], Shaped[np.ndarray, "class ..."]]


def infer(maps: Map, images: Images | None, model: Model) -> Map:
    """Return the mean-field maps of a block of images, nothing approximated.

    A pixel sends a message to itself too, as in all implementations by filtering.

    Args:
        maps: float32 (image, class, row, col).
        images: uint8 (image, channel, row, col); None where no kernel looks at colour.
        model: the field.

    Raises:
        BadMaps: images of more pixels than two such kernels have room in memory.

    Source: Krähenbühl and Koltun, "Efficient Inference in Fully Connected CRFs with Gaussian Edge
        Potentials", NIPS 2011, algorithm 1.
    """
    pixels = maps.shape[2] * maps.shape[3]
    if pixels > MOST_PIXELS:
        raise BadMaps(f"maps of {pixels} pixels; expected at most {MOST_PIXELS} by backend=exact")
    result = np.empty(maps.shape, np.float32)
    for number, one in enumerate(maps):
        image = None if images is None else images[number]
        result[number] = _one(one[None].astype(np.float64), image, model)[0]
    return result


def _one(map_: Map, image: Array | None, model: Model) -> Map:
    size = map_.shape[2:]
    filters = [_filter(kernel, size, image) for kernel in model.kernels]
    costs = unary(map_, model.floor)
    q = softmax(-costs)
    for _ in range(model.iterations):
        scores = -costs
        for kernel, filtered in zip(model.kernels, filters, strict=True):
            received = filtered(q[0]).reshape(model.classes, -1)
            scores -= (kernel.costs.astype(np.float64) @ received).reshape(q.shape)
        q = softmax(scores)
    return q


def _filter(kernel: Kernel, size: tuple[int, ...], image: Array | None) -> Filter:
    rows, cols = (_gaussian(np.arange(length)[:, None] / kernel.sxy) for length in size)
    if kernel.srgb is None or image is None:
        row, col = (_normalised(matrix) for matrix in (rows, cols))
        return lambda q: row @ q @ col
    colours = np.broadcast_to(image, (RGB, *size)).reshape(RGB, -1).T / kernel.srgb
    full = _gaussian(colours)
    # In place: the kernel is the product of its parts, and there is room for one.
    full.reshape(*size, *size)[...] *= rows[:, None, :, None]
    full.reshape(*size, *size)[...] *= cols[:, None, :]
    full = _normalised(full)
    return lambda q: q.reshape(len(q), -1) @ full


def _gaussian(features: Features) -> Full:
    """Evaluate exp(-|a - b|^2 / 2) between all pairs, in chunks of rows."""
    squares = (features**2).sum(axis=1)
    matrix = np.empty((len(features), len(features)))
    for start in range(0, len(features), CHUNK):
        part = matrix[start : start + CHUNK]
        some = features[start : start + CHUNK]
        np.matmul(some, features.T, out=part)
        part -= squares / 2
        part -= (some**2).sum(axis=1, keepdims=True) / 2
        np.exp(part, out=part)
    return matrix


def _normalised(matrix: Full) -> Full:
    """Divide each entry by the root of its row's and its column's sum, in place."""
    scale = 1 / np.sqrt(matrix.sum(axis=1))
    matrix *= scale
    matrix *= scale[:, None]
    return matrix
