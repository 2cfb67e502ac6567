"""Mean-field inference with the full kernels, pixels x pixels, in float64: the reference."""

from collections.abc import Callable

import numpy as np
from jaxtyping import Float, Shaped

from evaluation.core.errors import BadMaps
from evaluation.core.types import Array, Images, Map
from postproc.dense_crf.model import RGB, CrfParams, Kernel, softmax, unary

MAX_PIXELS = 10_000  # 800 MB per kernel
CHUNK = 256

Full = Float[np.ndarray, "pixel pixel"]
Features = Float[np.ndarray, "pixel feature"]
Filter = Callable[[Shaped[np.ndarray, "class row col"]], Shaped[np.ndarray, "class ..."]]


def infer(maps: Map, images: Images | None, params: CrfParams) -> Map:
    """Return the mean-field maps of a block of images without approximation.

    A pixel sends a message to itself too, as in all implementations by filtering.

    Args:
        maps: float32 (image, class, row, col).
        images: uint8 (image, channel, row, col); None where no kernel uses colour.

    Raises:
        BadMaps: images with more pixels than two such kernels fit into memory.

    References:
        Krähenbühl and Koltun, "Efficient Inference in Fully Connected CRFs with Gaussian Edge
        Potentials", NIPS 2011, algorithm 1.
    """
    pixels = maps.shape[2] * maps.shape[3]
    if pixels > MAX_PIXELS:
        raise BadMaps(f"maps of {pixels} pixels; expected at most {MAX_PIXELS} by backend=exact")
    result = np.empty(maps.shape, np.float32)
    for index, one in enumerate(maps):
        image = None if images is None else images[index]
        result[index] = _infer_image(one[None].astype(np.float64), image, params)[0]
    return result


def _infer_image(maps: Map, image: Array | None, params: CrfParams) -> Map:
    size = maps.shape[2:]
    filters = [_filter(kernel, size, image) for kernel in params.kernels]
    costs = unary(maps, params.floor)
    q = softmax(-costs)
    for _ in range(params.iterations):
        scores = -costs
        for kernel, filtered in zip(params.kernels, filters, strict=True):
            received = filtered(q[0]).reshape(params.classes, -1)
            scores -= (kernel.costs.astype(np.float64) @ received).reshape(q.shape)
        q = softmax(scores)
    return q


def _filter(kernel: Kernel, size: tuple[int, ...], image: Array | None) -> Filter:
    rows, cols = (_gaussian(np.arange(length)[:, None] / kernel.sxy) for length in size)
    if kernel.srgb is None or image is None:
        row, col = (_normalise(matrix) for matrix in (rows, cols))
        return lambda q: row @ q @ col
    colours = np.broadcast_to(image, (RGB, *size)).reshape(RGB, -1).T / kernel.srgb
    full = _gaussian(colours)
    # In place: the kernel is the product of its factors, and only one fits into memory.
    full.reshape(*size, *size)[...] *= rows[:, None, :, None]
    full.reshape(*size, *size)[...] *= cols[:, None, :]
    full = _normalise(full)
    return lambda q: q.reshape(len(q), -1) @ full


def _gaussian(features: Features) -> Full:
    """Evaluate exp(-|a - b|^2 / 2) between all pairs, in chunks of rows."""
    squares = (features**2).sum(axis=1)
    matrix = np.empty((len(features), len(features)))
    for start in range(0, len(features), CHUNK):
        part = matrix[start : start + CHUNK]
        rows = features[start : start + CHUNK]
        np.matmul(rows, features.T, out=part)
        part -= squares / 2
        part -= (rows**2).sum(axis=1, keepdims=True) / 2
        np.exp(part, out=part)
    return matrix


def _normalise(matrix: Full) -> Full:
    """Divide each entry by the root of its row's and its column's sum, in place."""
    scale = 1 / np.sqrt(matrix.sum(axis=1))
    matrix *= scale
    matrix *= scale[:, None]
    return matrix
