"""Predict large images by overlapping tiles whose maps are blended."""

import math
from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional

from evaluation.core.ragged import Size

SIGMA = 0.125
"""Standard deviation of the Gaussian weights, as a share of the tile's side; MONAI's default."""

MIN_WEIGHT = 1e-3
"""Smallest weight of a pixel of a tile, so that every pixel counts; MONAI's clamp."""

Predictor = Callable[[Tensor], Tensor]


def predict_by_tiles(predictor: Predictor, images: Tensor, tile: Size, overlap: float) -> Tensor:
    """Predict images by tiles, and blend the maps with Gaussian weights.

    Tiles start every `tile * (1 - overlap)` pixels; the last one of a row or column is moved back
    to the edge. Images that are not larger than a tile are predicted whole.

    Args:
        predictor: from images (image, channel, row, col) to maps (image, class, row, col).
        images: any type.
        tile: rows and columns, in pixels.
        overlap: of neighbouring tiles, as a share of their side, 0 to below 1.

    References:
        `sliding_window_inference(mode="gaussian")` of MONAI 1.6.

    Examples:
        >>> images = torch.arange(12.0).reshape(1, 1, 2, 6)
        >>> predict_by_tiles(lambda x: 2 * x, images, (2, 4), 0.5)[0, 0, 0].round().tolist()
        [0.0, 2.0, 4.0, 6.0, 8.0, 10.0]
    """
    rows, cols = images.shape[2:]
    if rows <= tile[0] and cols <= tile[1]:
        return predictor(images)
    down, right = max(0, tile[0] - rows), max(0, tile[1] - cols)
    if down or right:  # replicated, as networks are padded to their stride
        values = images if images.is_floating_point() else images.float()
        images = functional.pad(values, (0, right, 0, down), mode="replicate")
    weights = _weights(tile).to(images.device)
    total: Tensor | None = None
    weight_sums = torch.zeros(images.shape[2:], device=images.device)
    for top in _starts(images.shape[2], tile[0], overlap):
        for left in _starts(images.shape[3], tile[1], overlap):
            window = (slice(top, top + tile[0]), slice(left, left + tile[1]))
            maps = predictor(images[(..., *window)])
            if total is None:
                total = maps.new_zeros((*maps.shape[:2], *images.shape[2:]))
            total[(..., *window)] += maps * weights
            weight_sums[window] += weights
    assert total is not None
    return (total / weight_sums)[..., :rows, :cols]


def _starts(length: int, tile: int, overlap: float) -> list[int]:
    step = max(1, int(tile * (1 - overlap)))
    count = 1 + math.ceil(max(0, length - tile) / step)
    return [min(index * step, length - tile) for index in range(count)]


def _weights(tile: Size) -> Tensor:
    sides = [
        torch.exp(-0.5 * ((torch.arange(side) - (side - 1) / 2) / (SIGMA * side)) ** 2)
        for side in tile
    ]
    weights = sides[0][:, None] * sides[1]
    return weights.clamp_min(MIN_WEIGHT)
