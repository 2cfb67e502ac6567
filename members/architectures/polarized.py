"""Polarized self-attention: weights for channels and for places, each at full resolution."""

import torch
from torch import Tensor, nn


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
