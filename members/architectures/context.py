"""Blocks for context: pyramid pooling over parts or strips of the image, and self-attention."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from members.architectures.blocks import ConvBlock, PointwiseConv, pooled_branch, resized


class _PooledPyramid(nn.Module):
    """The features and their means over parts of the image, concatenated and projected."""

    branches: nn.ModuleList
    project: nn.Module

    def forward(self, features: Tensor) -> Tensor:
        """Apply all branches."""
        means = [resized(branch(features), features) for branch in self.branches]
        result: Tensor = self.project(torch.cat([features, *means], dim=1))
        return result


class PyramidPooling(_PooledPyramid):
    """The pyramid pooling module (PPM): (N, channels, H, W) to (N, width, H, W).

    For each number of bins, the means over bins x bins parts of the image, reduced to
    channels / len(bins) and upsampled; concatenated with the features and projected to `width` by a
    1 x 1 convolution (the paper's is 3 x 3, of the decoder that follows).

    Args:
        channels: of the input.
        width: channels of the output.
        bins: parts along each side, one entry per branch.

    References:
        Zhao et al., "Pyramid Scene Parsing Network", 2017.
    """

    def __init__(self, channels: int, width: int, *, bins: Sequence[int] = (1, 2, 3, 6)) -> None:
        super().__init__()
        reduced = max(1, channels // len(bins))
        self.branches = nn.ModuleList(pooled_branch(channels, reduced, count) for count in bins)
        self.project = PointwiseConv(channels + len(bins) * reduced, width)


class StripPyramidPooling(_PooledPyramid):
    """Strip pyramid pooling (SPPM): (N, channels, H, W) to (N, width, H, W).

    For each number of bands, the means over so many bands of rows (each column by itself) and of
    columns (each row by itself), reduced by a 1 x 1 convolution and upsampled; concatenated with
    the features and projected by a 3 x 3 convolution. A band follows the horizon or a ridge, where
    a square part would mix ground and sky.

    Args:
        channels: of the input.
        width: channels of the output.
        bands: number of bands, one entry per pair of branches.

    References:
        Li et al., "MarsSeg: Mars Surface Semantic Segmentation with Multi-level Extractor and
        Connector", 2024, for name and purpose; the strips are those of Hou et al., "Strip Pooling",
        2020; the pyramid of several numbers of bands is ours.
    """

    def __init__(self, channels: int, width: int, *, bands: Sequence[int] = (1, 2, 4)) -> None:
        super().__init__()
        reduced = max(1, channels // (2 * len(bands)))
        sizes = [size for count in bands for size in ((count, None), (None, count))]
        self.branches = nn.ModuleList(pooled_branch(channels, reduced, size) for size in sizes)
        self.project = ConvBlock(channels + len(sizes) * reduced, width, convolutions=1)


class ChannelAttention(nn.Module):
    """One weight per channel, computed from the pixels that a query selects.

    (N, channels, H, W) to weights (N, channels, 1, 1).
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        half = max(1, channels // 2)
        self.query = nn.Conv2d(channels, 1, 1)
        self.value = nn.Conv2d(channels, half, 1)
        self.widen = nn.Linear(half, channels)
        self.normalise = nn.LayerNorm(channels)

    def forward(self, features: Tensor) -> Tensor:
        """Return the weights, 0 to 1."""
        attention = self.query(features).flatten(2).softmax(dim=2)
        selected = self.value(features).flatten(2) @ attention.transpose(1, 2)
        weights = torch.sigmoid(self.normalise(self.widen(selected[:, :, 0])))
        return weights[:, :, None, None]


class SpatialAttention(nn.Module):
    """One weight per pixel, computed from the channels that a query of their means selects.

    (N, channels, H, W) to weights (N, 1, H, W).
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        half = max(1, channels // 2)
        self.query = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Conv2d(channels, half, 1))
        self.value = nn.Conv2d(channels, half, 1)

    def forward(self, features: Tensor) -> Tensor:
        """Return the weights, 0 to 1."""
        attention = self.query(features).softmax(dim=1)
        return torch.sigmoid((self.value(features) * attention).sum(dim=1, keepdim=True))


class PolarizedSelfAttention(nn.Module):
    """PSA in its parallel layout: the features weighted by channel plus those weighted by pixel.

    (N, channels, H, W) to the same. The spatial query averages before its 1 x 1 convolution, which
    is the same as after it, but computed for one pixel instead of all.

    References:
        Liu et al., "Polarized Self-Attention: Towards High-quality Pixel-wise Regression", 2021.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.channel = ChannelAttention(channels)
        self.spatial = SpatialAttention(channels)

    def forward(self, features: Tensor) -> Tensor:
        """Return the weighted features."""
        weighted: Tensor = features * (self.channel(features) + self.spatial(features))
        return weighted
