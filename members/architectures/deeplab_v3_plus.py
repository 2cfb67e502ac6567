"""DeepLabv3+: a dilated residual encoder with ASPP, and a light decoder for edges."""

import torch
from torch import Tensor, nn

from members.architectures.blocks import (
    ASPP,
    ConvBlock,
    Dropout,
    PointwiseConv,
    Residual,
    Width,
    he_initialise,
    resized,
)

LOW_LEVEL_REDUCTION = 4  # of the low-level channels, so that they do not outweigh ASPP


class DeepLabV3Plus(nn.Module):
    """Images (N, channels, H, W) to logits (N, classes, H, W); H and W multiples of 8."""

    stride = 8

    def __init__(self, channels: int, classes: int, *, width: int, dropout: float) -> None:
        super().__init__()
        deep, low_level = 8 * width, max(1, 2 * width // LOW_LEVEL_REDUCTION)
        self.stem = ConvBlock(channels, width)
        self.low = nn.Sequential(
            Residual(width, 2 * width, stride=2), Residual(2 * width, 2 * width)
        )
        self.high = nn.Sequential(
            Residual(2 * width, 4 * width, stride=2),
            Residual(4 * width, 4 * width),
            Residual(4 * width, deep, stride=2),
            Residual(deep, deep),
            # Dilated instead of a fourth halving, which would leave 4 x 8 cells of 64 x 128 pixels.
            Residual(deep, deep, dilation=2),
            Residual(deep, deep, dilation=2),
        )
        self.aspp = ASPP(deep, 4 * width, rates=(2, 4, 6))
        self.reduce = PointwiseConv(2 * width, low_level)
        self.decoder = ConvBlock(4 * width + low_level, 4 * width, dropout=dropout)
        self.head = nn.Conv2d(4 * width, classes, 1)
        he_initialise(self)

    def features(self, images: Tensor) -> Tensor:
        """Return the features that the head classifies, (N, 4 * width, H / 2, W / 2)."""
        low = self.low(self.stem(images))
        deep = resized(self.aspp(self.high(low)), low)
        features: Tensor = self.decoder(torch.cat([self.reduce(low), deep], dim=1))
        return features

    def forward(self, images: Tensor) -> Tensor:
        """Return the logits of each pixel."""
        return resized(self.head(self.features(images)), images)


def deeplab_v3_plus(
    channels: int,
    classes: int,
    *,
    width: Width = 16,
    dropout: Dropout = 0.1,
) -> DeepLabV3Plus:
    """Build a DeepLabv3+ sized for small images, trained from scratch; 1.6 million parameters.

    The encoder is a basic-block ResNet at output stride 8; the low-level features are those at
    half size. The rates are the paper's 6, 12, 18 divided by 3, since the feature map of a
    64 x 128 image is 8 x 16, where a rate of 18 would reach nothing but padding.

    Args:
        width: channels at full size; the encoder ends with 8 times as many.
        dropout: fraction of the decoder's channels dropped in training.

    References:
        Chen et al., "Encoder-Decoder with Atrous Separable Convolution for Semantic Image
        Segmentation", 2018.
    """
    return DeepLabV3Plus(channels, classes, width=width, dropout=dropout)
