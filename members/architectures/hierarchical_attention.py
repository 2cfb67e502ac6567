"""Hierarchical multi-scale attention: one network predicts several scales and weights them."""

import math
from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional

from members.architectures.blocks import ConvBlock, Dropout, Width, he_initialise, resized
from members.architectures.deeplab_v3_plus import DeepLabV3Plus

GROUPS = 8  # of group normalisation


class HierarchicalAttention(nn.Module):
    """Images (N, channels, H, W) to logits (N, classes, H, W); H and W multiples of `stride`."""

    def __init__(
        self, channels: int, classes: int, *, width: int, scales: int, dropout: float
    ) -> None:
        super().__init__()
        self.scales = scales
        self.stride = DeepLabV3Plus.stride * 2 ** (scales - 1)
        self.trunk = DeepLabV3Plus(channels, classes, width=width, dropout=dropout)
        self.attention = nn.Sequential(
            ConvBlock(4 * width, 4 * width), nn.Conv2d(4 * width, 1, 1), nn.Sigmoid()
        )
        normalise_by_groups(self)
        he_initialise(self)

    def forward(self, images: Tensor) -> Tensor:
        """Return the logits of each pixel."""
        views = [images]
        for _ in range(self.scales - 1):
            views.append(functional.avg_pool2d(views[-1], 2))
        features = self.trunk.features(views.pop())
        logits = self.trunk.head(features)
        while views:
            attention = self.attention(features)
            features = self.trunk.features(views.pop())
            logits = merge_scales(logits, attention, self.trunk.head(features))
        return resized(logits, images)


def merge_scales(coarse: Tensor, attention: Tensor, fine: Tensor) -> Tensor:
    """Return logits at the fine size, averaged with the attention as weight of the coarse ones.

    Args:
        coarse: logits (N, classes, h, w).
        attention: (N, 1, h, w), 0 to 1.
        fine: logits (N, classes, H, W).
    """
    return resized(attention * coarse, fine) + (1 - resized(attention, fine)) * fine


class GroupNorm(nn.GroupNorm):
    """Group normalisation that takes a single value per group too, as torch does of two images."""

    def forward(self, features: Tensor) -> Tensor:
        """Normalise (N, width, H, W)."""
        return torch.group_norm(features, self.num_groups, self.weight, self.bias, self.eps)


def normalise_by_groups(module: nn.Module) -> None:
    """Replace every batch normalisation in a module by group normalisation.

    The scales share the trunk, and running statistics of both fit neither: a network that had
    memorised its training images missed a sixth of their pixels in evaluation mode.
    """
    for name, child in module.named_children():
        if isinstance(child, nn.BatchNorm2d):
            width = child.num_features
            setattr(module, name, GroupNorm(math.gcd(GROUPS, width), width))
        else:
            normalise_by_groups(child)


def hierarchical_attention(
    channels: int,
    classes: int,
    *,
    width: Width = 16,
    scales: Annotated[int, Field(ge=2, le=4)] = 2,
    dropout: Dropout = 0.1,
) -> HierarchicalAttention:
    """Build a network that attends to scales; 1.7 million parameters.

    A DeepLabv3+, the trunk of the paper's ablations, is applied at each scale with the same
    weights; an attention head gives each coarse pixel's weight against the next finer scale. Scales
    are merged at half size, the size of the trunk's logits. It uses group normalisation, the paper
    batch normalisation.

    Args:
        width: of the trunk, as in `deeplab_v3_plus`.
        scales: 2 for half and full size, as the paper trains; each further one halves once more.
        dropout: fraction of the trunk decoder's channels dropped in training.

    References:
        Tao et al., "Hierarchical Multi-Scale Attention for Semantic Segmentation", 2020.
    """
    return HierarchicalAttention(channels, classes, width=width, scales=scales, dropout=dropout)
