"""Hierarchical U-Net: a sequence of U-Nets from coarse to fine, each correcting the one before."""

from collections.abc import Sequence
from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional

from members.architectures.blocks import Dropout, Width, resized
from members.architectures.unet import UNet, unet


class HierarchicalUNet(nn.Module):
    """Images (N, channels, H, W) to logits (N, classes, H, W); H and W multiples of `stride`.

    `parts` are the U-Nets in the order in which they can be trained one by one; output number
    `len(parts) - 1 - k` in training is that of part k.

    Args:
        parts: coarsest first; all but the first get class probabilities too.
    """

    def __init__(self, parts: Sequence[UNet]) -> None:
        super().__init__()
        self.parts = nn.ModuleList(parts)
        self.stride: int = parts[0].stride * 2 ** (len(parts) - 1)

    def forward(self, images: Tensor) -> Tensor | tuple[Tensor, ...]:
        """Return the finest logits; in training, the coarser ones after them, at full size."""
        first, *finer = self.parts
        logits = [first(_downsampled(images, len(finer)))]
        for halvings, part in zip(range(len(finer) - 1, -1, -1), finer, strict=True):
            image = _downsampled(images, halvings)
            pred = resized(logits[-1].softmax(dim=1), image)
            logits.append(part(torch.cat([image, pred], dim=1)))
        if not self.training:
            finest: Tensor = logits[-1]
            return finest
        return tuple(resized(level, images) for level in reversed(logits))


def _downsampled(images: Tensor, halvings: int) -> Tensor:
    return functional.avg_pool2d(images, 2**halvings) if halvings else images


def hierarchical_unet(
    channels: int,
    classes: int,
    *,
    width: Width = 16,
    depth: Annotated[int, Field(ge=1, le=6)] = 3,
    levels: Annotated[int, Field(ge=2, le=4)] = 3,
    dropout: Dropout = 0.0,
    se: bool = False,
) -> HierarchicalUNet:
    """Build U-Nets from coarse to fine; 1.5 million parameters at the defaults.

    The first gets the image at 1 / 2**(levels - 1) of its size, each further one at twice the size
    of the one before, with its class probabilities. All are trained on the full target.

    Args:
        width: channels of the first level of each U-Net; each level below has twice as many.
        depth: number of poolings of each.
        levels: number of U-Nets.
        dropout: fraction of the channels dropped after each block, in training.

    References:
        the coarse-to-fine cascade of Isensee et al., "nnU-Net: a self-configuring method for
        deep learning-based biomedical image segmentation", 2021, with more than two stages and
        trained as a whole.
    """
    sources = [channels] + [channels + classes] * (levels - 1)
    return HierarchicalUNet(
        [unet(part, classes, width=width, depth=depth, dropout=dropout, se=se) for part in sources]
    )
