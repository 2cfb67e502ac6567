"""Pyramid pooling: the features next to their means over larger and larger parts of the image.

Strip pyramid pooling: means over bands of rows and of columns, next to the features.

Polarized self-attention: weights for channels and for places, each at full resolution.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from members.architectures.blocks import ConvBlock, PointBlock, resized


class PyramidPooling(nn.Module):
    """The pyramid pooling module (PPM): (N, channels, H, W) to (N, width, H, W).

    For each number of bins, the means over bins x bins parts of the image, reduced to
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
        # No normalisation here: a batch of one image has one value a channel in a single bin.
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


class StripPyramidPooling(nn.Module):
    """SPPM: each place sees the bands it lies in; (N, channels, H, W) to (N, width, H, W).

    For each number of bands, the means over so many bands of rows (each column by itself) and of
    columns (each row by itself), reduced by a 1 x 1 convolution and brought back to full size; all
    of them next to the features, projected by a 3 x 3 convolution. A band follows the horizon or a
    ridge where a square part of pyramid pooling would mix ground and sky.

    Args:
        channels: of the input.
        width: channels of the output.
        bands: how many, one entry a pair of branches.

    Source: Li et al., "MarsSeg: Mars Surface Semantic Segmentation with Multi-level Extractor and
        Connector", 2024, for the name and purpose; the strips are those of Hou et al., "Strip
        Pooling", 2020, their pyramid is ours.
    """

    def __init__(self, channels: int, width: int, *, bands: Sequence[int] = (1, 2, 4)) -> None:
        super().__init__()
        reduced = max(1, channels // (2 * len(bands)))
        shapes = [shape for count in bands for shape in ((count, None), (None, count))]
        # No normalisation here: a batch of one small image may have one value a channel.
        self.branches = nn.ModuleList(
            nn.Sequential(
                nn.AdaptiveAvgPool2d(shape),
                nn.Conv2d(channels, reduced, 1),
                nn.ReLU(inplace=True),
            )
            for shape in shapes
        )
        self.project = ConvBlock(channels + len(shapes) * reduced, width, convolutions=1)

    def forward(self, features: Tensor) -> Tensor:
        """Look at the features next to the means of their bands."""
        means = [resized(branch(features), features) for branch in self.branches]
        result: Tensor = self.project(torch.cat([features, *means], dim=1))
        return result


class ChannelAttention(nn.Module):
    """Weigh each channel, 0 to 1, by the sum over the places that a query picks.

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
        """Return the weights of the channels."""
        places = self.query(features).flatten(2).softmax(dim=2)
        picked = self.value(features).flatten(2) @ places.transpose(1, 2)
        weights = torch.sigmoid(self.normalise(self.widen(picked[:, :, 0])))
        return weights[:, :, None, None]


class PlaceAttention(nn.Module):
    """Weigh each place, 0 to 1, by the sum over the channels that a query of the means picks.

    (N, channels, H, W) to weights (N, 1, H, W).
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        half = max(1, channels // 2)
        self.query = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Conv2d(channels, half, 1))
        self.value = nn.Conv2d(channels, half, 1)

    def forward(self, features: Tensor) -> Tensor:
        """Return the weights of the places."""
        chosen = self.query(features).softmax(dim=1)
        return torch.sigmoid((self.value(features) * chosen).sum(dim=1, keepdim=True))


class PolarizedSelfAttention(nn.Module):
    """PSA in its parallel layout: the features weighed by channel plus those weighed by place.

    (N, channels, H, W) to the same. The means come first in the query of the places: a 1 x 1
    convolution of means is the mean of the convolution, at one place instead of all.

    Source: Liu et al., "Polarized Self-Attention: Towards High-quality Pixel-wise Regression",
        2021.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.by_channel = ChannelAttention(channels)
        self.by_place = PlaceAttention(channels)

    def forward(self, features: Tensor) -> Tensor:
        """Weigh the features both ways."""
        weighed: Tensor = features * (self.by_channel(features) + self.by_place(features))
        return weighed
