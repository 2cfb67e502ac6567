"""EfferDeepNet: mixed depthwise kernels, ghost features and attention, for terrain."""

from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor, nn

from members.architectures.blocks import (
    ASPP,
    MAX_WIDTH,
    BatchNorm,
    ConvBlock,
    DepthwiseConv,
    Dropout,
    PointwiseConv,
    SqueezeExcitation,
    he_initialise,
    resized,
)

KERNELS = (3, 5, 7)
EXPANSION = 4
RATES = (2, 4, 6)  # as in `deeplab_v3_plus`: 8 x 16 cells are too few for larger ones


class Ghost(nn.Module):
    """Half of the channels by a 1 x 1 convolution, the others from them by a depthwise one.

    (N, channels, H, W) to (N, width, H, W); width at least 2.

    References:
        Han et al., "GhostNet: More Features from Cheap Operations", 2020.
    """

    def __init__(self, channels: int, width: int) -> None:
        super().__init__()
        self.ghosts = cheap = width // 2
        self.primary = nn.Sequential(
            nn.Conv2d(channels, width - cheap, 1, bias=False), BatchNorm(width - cheap)
        )
        self.cheap = nn.Sequential(DepthwiseConv(cheap, 3, bias=False), BatchNorm(cheap))

    def forward(self, features: Tensor) -> Tensor:
        """Return the primary and the ghost features, concatenated."""
        primary = self.primary(features)
        return torch.cat([primary, self.cheap(primary[:, : self.ghosts])], dim=1)


class MixedDepthwise(nn.Module):
    """A depthwise convolution, a third of the channels with each of the kernels 3, 5 and 7.

    (N, width, H, W) to the same, or to half the size at stride 2; width at least 3.

    References:
        Tan and Le, "MixConv: Mixed Depthwise Convolutional Kernels", 2019.
    """

    def __init__(self, width: int, *, stride: int) -> None:
        super().__init__()
        self.widths = [len(range(start, width, len(KERNELS))) for start in range(len(KERNELS))]
        self.kernels = nn.ModuleList(
            DepthwiseConv(part, size, stride=stride, bias=False)
            for part, size in zip(self.widths, KERNELS, strict=True)
        )

    def forward(self, features: Tensor) -> Tensor:
        """Convolve each channel with its kernel."""
        parts = torch.split(features, self.widths, dim=1)
        return torch.cat([k(part) for k, part in zip(self.kernels, parts, strict=True)], dim=1)


class EfferBlock(nn.Module):
    """Inverted residual: ghost, mixed depthwise, squeeze-and-excitation, ghost."""

    def __init__(self, channels: int, width: int, *, stride: int = 1) -> None:
        super().__init__()
        wide = EXPANSION * channels
        self.body = nn.Sequential(
            Ghost(channels, wide),
            nn.ReLU(inplace=True),
            MixedDepthwise(wide, stride=stride),
            BatchNorm(wide),
            nn.ReLU(inplace=True),
            SqueezeExcitation(wide),
            Ghost(wide, width),
        )
        self.adds = stride == 1 and channels == width

    def forward(self, features: Tensor) -> Tensor:
        """(N, channels, H, W) to (N, width, H / stride, W / stride)."""
        residual: Tensor = self.body(features)
        return features + residual if self.adds else residual


class EfferDeepNet(nn.Module):
    """Images (N, channels, H, W) to logits (N, classes, H, W); H and W multiples of 8."""

    stride = 8

    def __init__(
        self, channels: int, classes: int, *, width: int, blocks: int, dropout: float
    ) -> None:
        super().__init__()
        self.stem = ConvBlock(channels, width, convolutions=1)
        self.low = _level(width, 2 * width, blocks)
        self.high = nn.Sequential(
            _level(2 * width, 4 * width, blocks), _level(4 * width, 8 * width, blocks)
        )
        self.aspp = ASPP(8 * width, 4 * width, rates=RATES)
        self.reduce = PointwiseConv(2 * width, width)
        self.decoder = ConvBlock(5 * width, 4 * width, dropout=dropout)
        self.head = nn.Conv2d(4 * width, classes, 1)
        he_initialise(self)

    def forward(self, images: Tensor) -> Tensor:
        """Return the logits of each pixel."""
        low = self.low(self.stem(images))
        deep = resized(self.aspp(self.high(low)), low)
        features = self.decoder(torch.cat([self.reduce(low), deep], dim=1))
        return resized(self.head(features), images)


def _level(channels: int, width: int, blocks: int) -> nn.Sequential:
    return nn.Sequential(
        EfferBlock(channels, width, stride=2),
        *(EfferBlock(width, width) for _ in range(blocks - 1)),
    )


def efferdeepnet(
    channels: int,
    classes: int,
    *,
    width: Annotated[int, Field(ge=2, le=MAX_WIDTH)] = 16,
    blocks: Annotated[int, Field(ge=1, le=8)] = 2,
    dropout: Dropout = 0.1,
) -> EfferDeepNet:
    """Build a network after EfferDeepNet; 0.57 million parameters.

    From the paper's abstract, as its text was not available: depthwise separable convolutions with
    kernels of several sizes, attention, ghost modules, and an enhanced feature extraction network
    for the borders. The rest is ours: kernels 3, 5 and 7, squeeze-and-excitation as the attention,
    their order in an inverted residual (as in EfficientNet), the number of blocks and channels, and
    DeepLabv3+'s ASPP and low-level features as the enhanced feature extraction.

    Args:
        width: channels at full size; the encoder ends with 8 times as many.
        blocks: at each of the three levels; the first halves the image.
        dropout: fraction of the decoder's channels dropped in training.

    References:
        Wei et al., "EfferDeepNet: An Efficient Semantic Segmentation Method for Outdoor
        Terrain", Machines 2023.
    """
    return EfferDeepNet(channels, classes, width=width, blocks=blocks, dropout=dropout)
