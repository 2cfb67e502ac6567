"""Pictures and masks moved by a matrix each, all at once on their device."""

import torch
from torch import Tensor
from torch.nn import functional

from evaluation.ground.classes import UNLABELLED


def warp(
    pictures: Tensor, masks: Tensor, matrices: Tensor, shifts: Tensor
) -> tuple[Tensor, Tensor]:
    """Move pictures and masks; pixels from outside are black and unlabelled.

    Args:
        pictures: uint8, (picture, channel, row, col); interpolated linearly.
        masks: uint8, (picture, row, col); each pixel takes the label of the nearest.
        matrices: (picture, 2, 2); the pixel at (x, y) from the middle comes from matrix (x, y).
        shifts: (picture, 2); added to that, (x, y) in pixels.
    """
    grid = _grid(matrices.float(), shifts.float(), *masks.shape[1:])
    moved = functional.grid_sample(pictures.float(), grid, align_corners=True)
    # Outside, the sampler sees 0; labels are turned over so that this means unlabelled.
    labels = functional.grid_sample(
        (UNLABELLED - masks).float()[:, None], grid, mode="nearest", align_corners=True
    )
    return moved.round().to(pictures.dtype), UNLABELLED - labels[:, 0].to(masks.dtype)


def _grid(matrices: Tensor, shifts: Tensor, rows: int, cols: int) -> Tensor:
    """Return where each pixel comes from, (picture, row, col, 2), as (x, y) from -1 to 1."""
    x = torch.arange(cols, device=shifts.device) - (cols - 1) / 2
    y = torch.arange(rows, device=shifts.device)[:, None] - (rows - 1) / 2
    to_x, to_y = matrices[..., None, None].unbind(1)
    shift_x, shift_y = shifts[..., None, None].unbind(1)
    # Written out: a product with matrices as small as these takes several times as long.
    from_x = to_x[:, 0] * x + (to_x[:, 1] * y + shift_x)
    from_y = to_y[:, 0] * x + (to_y[:, 1] * y + shift_y)
    ends = from_x * (2 / max(cols - 1, 1)), from_y * (2 / max(rows - 1, 1))
    return torch.stack(ends, dim=1).movedim(1, -1)
