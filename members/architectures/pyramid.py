"""Pyramid pooling: the features next to their means over larger and larger parts of the picture."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from members.architectures.blocks import PointBlock, resized


class PyramidPooling(nn.Module):
    """The pyramid pooling module (PPM): (N, channels, H, W) to (N, width, H, W).

    For each number of bins, the means over bins x bins parts of the picture, reduced to
    channels / len(bins) and brought back to full size; all of them next to the features, projected
    to `width` by a 1 x 1 convolution (the paper's is 3 x 3, of the decoder that follows).

    Args:
        channels: of the input.
        width: channels of the output.
        bins: parts along each side, one entry a branch.

    Source: Zhao et al., "Pyramid Scene Parsing Network", 2017.
    """

    def __init__(self, channels: int, width: int, *, bins: Sequence[int] = (1, 2, 3, 6)) -> None:
        super().__init__()
        reduced = max(1, channels // len(bins))
        # No normalisation here: a batch of one picture has one value a channel in a single bin.
        self.branches = nn.ModuleList(
            nn.Sequential(
                nn.AdaptiveAvgPool2d(count),
                nn.Conv2d(channels, reduced, 1),
                nn.ReLU(inplace=True),
            )
            for count in bins
        )
        self.project = PointBlock(channels + len(bins) * reduced, width)

    def forward(self, features: Tensor) -> Tensor:
        """Look at the features next to their means."""
        means = [resized(branch(features), features) for branch in self.branches]
        result: Tensor = self.project(torch.cat([features, *means], dim=1))
        return result
