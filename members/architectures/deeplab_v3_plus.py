"""DeepLabv3+: a dilated residual encoder with ASPP, and a light decoder that restores edges."""

from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional

from members.architectures.blocks import ASPP, ConvBlock, PointBlock, he_initialise

LOW_LEVEL_SHARE = (
    4  # the decoder sees this fraction of the low-level channels, lest they drown ASPP
)


class Residual(nn.Module):
    """Two convolutions with a shortcut, as in ResNet's basic block."""

    def __init__(self, channels: int, width: int, *, stride: int = 1, dilation: int = 1) -> None:
        super().__init__()
        self.first = nn.Sequential(
            nn.Conv2d(
                channels, width, 3, stride=stride, padding=dilation, dilation=dilation, bias=False
            ),
            nn.BatchNorm2d(width),
            nn.ReLU(inplace=True),
        )
        self.second = nn.Sequential(
            nn.Conv2d(width, width, 3, padding=dilation, dilation=dilation, bias=False),
            nn.BatchNorm2d(width),
        )
        self.stride = stride
        self.shortcut: nn.Module = nn.Identity()
        if stride > 1 or channels != width:
            self.shortcut = nn.Sequential(
                nn.Conv2d(channels, width, 1, bias=False), nn.BatchNorm2d(width)
            )

    def forward(self, features: Tensor) -> Tensor:
        """Add what the convolutions find to the features."""
        # A 1 x 1 convolution of every second pixel: the same as one with stride 2, whose bfloat16
        # gradient corrupts memory in torch 2.13 on a CPU (8 channels, channels last).
        passed = features[:, :, :: self.stride, :: self.stride]
        return functional.relu(self.second(self.first(features)) + self.shortcut(passed))


class DeepLabV3Plus(nn.Module):
    """Pictures (N, channels, H, W) to logits (N, classes, H, W); H and W multiples of 8."""

    stride = 8

    def __init__(self, channels: int, classes: int, *, width: int, dropout: float) -> None:
        super().__init__()
        deep = 8 * width
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
        self.reduce = PointBlock(2 * width, max(1, 2 * width // LOW_LEVEL_SHARE))
        self.decoder = ConvBlock(
            4 * width + max(1, 2 * width // LOW_LEVEL_SHARE), 4 * width, dropout=dropout
        )
        self.head = nn.Conv2d(4 * width, classes, 1)
        he_initialise(self)

    def forward(self, pictures: Tensor) -> Tensor:
        """Return the logits of each pixel."""
        low = self.low(self.stem(pictures))
        deep = _resized(self.aspp(self.high(low)), low)
        features = self.decoder(torch.cat([self.reduce(low), deep], dim=1))
        return _resized(self.head(features), pictures)


def _resized(features: Tensor, like: Tensor) -> Tensor:
    return functional.interpolate(
        features, size=like.shape[2:], mode="bilinear", align_corners=False
    )


def deeplab_v3_plus(
    channels: int,
    classes: int,
    *,
    width: Annotated[int, Field(ge=1)] = 16,
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.1,
) -> DeepLabV3Plus:
    """Build a DeepLabv3+ sized for small pictures, trained from scratch; 1.6 million parameters.

    The encoder is a basic-block ResNet at output stride 8; the low-level features are those at
    half size. The rates are the paper's 6, 12, 18 divided by 3, since the feature map of a
    64 x 128 picture is 8 x 16, where a rate of 18 would see nothing but padding.

    Args:
        channels: of the pictures.
        classes: how many logits a pixel.
        width: channels at full size; the encoder ends with 8 times as many.
        dropout: share of the decoder's channels dropped in training.

    Source: Chen et al., "Encoder-Decoder with Atrous Separable Convolution for Semantic Image
        Segmentation", 2018.
    """
    return DeepLabV3Plus(channels, classes, width=width, dropout=dropout)
