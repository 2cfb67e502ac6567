"""Moving the pixels of whole batches in torch, wherever they lie."""

import torch
from torch import Tensor
from torch.nn import functional

from evaluation.core.classes import UNLABELLED
from members.augmentations.augment import Pair


def warp(images: Tensor, masks: Tensor, matrices: Tensor, shifts: Tensor) -> Pair:
    """Transform each image and its mask by a matrix and a shift, all at once on their device.

    Args:
        images: (image, channel, row, col); interpolated linearly.
        masks: uint8, (image, row, col); interpolated by nearest neighbour.
        matrices: (image, 2, 2); the pixel at (x, y) from the centre comes from matrix (x, y).
        shifts: (image, 2); added to that, (x, y) in pixels.
    """
    return sample(images, masks, source_grid(matrices.float(), shifts.float(), *masks.shape[1:]))


def sample(images: Tensor, masks: Tensor, grid: Tensor) -> Pair:
    """Take each pixel from its source; those from outside are black and unlabelled.

    Args:
        images: (image, channel, row, col).
        masks: uint8, (image, row, col).
        grid: sources as of `source_grid`.
    """
    moved = functional.grid_sample(images.float(), grid, align_corners=True)
    # The sampler pads with 0; labels are inverted so that 0 means unlabelled.
    labels = functional.grid_sample(
        (UNLABELLED - masks).float()[:, None], grid, mode="nearest", align_corners=True
    )
    if not images.is_floating_point():
        moved = moved.round().to(images.dtype)
    return moved, UNLABELLED - labels[:, 0].to(masks.dtype)


def source_grid(matrices: Tensor, shifts: Tensor, rows: int, cols: int) -> Tensor:
    """Return the source of each pixel, (image, row, col, 2), as (x, y) from -1 to 1."""
    x = torch.arange(cols, device=shifts.device) - (cols - 1) / 2
    y = torch.arange(rows, device=shifts.device)[:, None] - (rows - 1) / 2
    to_x, to_y = matrices[..., None, None].unbind(1)
    shift_x, shift_y = shifts[..., None, None].unbind(1)
    # Written out: a matrix product takes several times as long for 2 x 2 matrices.
    from_x = to_x[:, 0] * x + (to_x[:, 1] * y + shift_x)
    from_y = to_y[:, 0] * x + (to_y[:, 1] * y + shift_y)
    ends = from_x * (2 / max(cols - 1, 1)), from_y * (2 / max(rows - 1, 1))
    return torch.stack(ends, dim=1).movedim(1, -1)
