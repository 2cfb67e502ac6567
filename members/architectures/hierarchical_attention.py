"""Attention between scales: one network sees the image at several sizes, and weighs them."""

import math
from typing import Annotated

from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional

from members.architectures.blocks import ConvBlock, he_initialise, resized
from members.architectures.deeplab_v3_plus import DeepLabV3Plus

GROUPS = 8  # of channels that are normalised together


class HierarchicalAttention(nn.Module):
    """Images (N, channels, H, W) to logits (N, classes, H, W); H and W multiples of `stride`."""

    def __init__(
        self, channels: int, classes: int, *, width: int, scales: int, dropout: float
    ) -> None:
        super().__init__()
        self.scales = scales
        self.stride = DeepLabV3Plus.stride * 2 ** (scales - 1)
        self.trunk = DeepLabV3Plus(channels, classes, width=width, dropout=dropout)
        self.trust = nn.Sequential(
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
            trust = self.trust(features)
            features = self.trunk.features(views.pop())
            logits = merged(logits, trust, self.trunk.head(features))
        return resized(logits, images)


def merged(coarse: Tensor, trust: Tensor, fine: Tensor) -> Tensor:
    """Return logits at the fine size: the coarse ones where they are trusted, else the fine ones.

    Args:
        coarse: logits (N, classes, h, w).
        trust: of each coarse pixel, (N, 1, h, w), 0 to 1.
        fine: logits (N, classes, H, W).
    """
    return resized(trust * coarse, fine) + (1 - resized(trust, fine)) * fine


def normalise_by_groups(module: nn.Module) -> None:
    """Put group normalisation in the place of every batch normalisation within.

    The scales share the trunk, and running means of both fit neither: a network that knew its
    training images by heart missed a sixth of their pixels when it was used.
    """
    for name, child in module.named_children():
        if isinstance(child, nn.BatchNorm2d):
            width = child.num_features
            setattr(module, name, nn.GroupNorm(math.gcd(GROUPS, width), width))
        else:
            normalise_by_groups(child)


def hierarchical_attention(
    channels: int,
    classes: int,
    *,
    width: Annotated[int, Field(ge=1)] = 16,
    scales: Annotated[int, Field(ge=2, le=4)] = 2,
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.1,
) -> HierarchicalAttention:
    """Build a network that attends to scales; 1.7 million parameters.

    Images (N, channels, H, W) to logits (N, classes, H, W). A DeepLabv3+, which is the trunk of
    the paper's ablations, sees the image at each scale with the same weights; a head beside the
    classifier says how far each coarse pixel is to be trusted over the next finer scale. The
    answers are merged at half size, where the trunk's head gives them. Normalised by groups of
    channels, the paper's by batches.

    Args:
        channels: of the images.
        classes: how many logits a pixel.
        width: of the trunk, as of `deeplab_v3_plus`.
        scales: 2 for half and full size, as the paper trains; each further one halves once more.
        dropout: share of the trunk decoder's channels dropped in training.

    Source: Tao et al., "Hierarchical Multi-Scale Attention for Semantic Segmentation", 2020.
    """
    return HierarchicalAttention(channels, classes, width=width, scales=scales, dropout=dropout)
