"""PAN: pyramid attention for context, and a decoder in which deep features gate shallow ones."""

from functools import partial
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from members.architectures.blocks import (
    ConvBlock,
    Dropout,
    PointwiseConv,
    Residual,
    ResidualEncoder,
    SqueezeExcitation,
    Width,
    he_initialise,
    pooled_branch,
    resized,
)

PYRAMID_KERNELS = (7, 5, 3)  # from fine to coarse
SE_REDUCTION = 8


class FeaturePyramidAttention(nn.Module):
    """Weight the features by a pyramid of three coarser levels, and add the mean of the image.

    (N, channels, H, W) to (N, width, H, W). The levels of the pyramid have a quarter of the width.
    """

    def __init__(self, channels: int, width: int) -> None:
        super().__init__()
        narrow = max(1, width // 4)
        sources = (channels, narrow, narrow)
        block = partial(ConvBlock, convolutions=1)
        self.down = nn.ModuleList(
            block(source, narrow, kernel_size=size)
            for source, size in zip(sources, PYRAMID_KERNELS, strict=True)
        )
        self.lateral = nn.ModuleList(
            block(narrow, narrow, kernel_size=size) for size in PYRAMID_KERNELS
        )
        self.widen = nn.Conv2d(narrow, width, 1)
        self.main = PointwiseConv(channels, width)
        self.mean = pooled_branch(channels, width)

    def forward(self, features: Tensor) -> Tensor:
        """Return the attended features."""
        levels, level = [], features
        for down in self.down:
            level = down(functional.max_pool2d(level, 2, ceil_mode=True))
            levels.append(level)
        merged = self.lateral[-1](levels[-1])
        for lateral, finer in zip(self.lateral[-2::-1], levels[-2::-1], strict=True):
            merged = lateral(finer) + resized(merged, finer)
        main = self.main(features)
        attended: Tensor = main * resized(self.widen(merged), main) + self.mean(features)
        return attended


class GlobalAttentionUpsample(nn.Module):
    """Gate the channels of the shallow features by the mean of the deep ones, and add both.

    Shallow (N, low, H, W) and deep (N, high, h, w) to (N, high, H, W). The gate is a sigmoid in
    place of the paper's batch normalisation and ReLU: a batch of one image has no variance, and a
    dead ReLU would block the shallow features for good.
    """

    def __init__(self, low: int, high: int) -> None:
        super().__init__()
        self.shallow = ConvBlock(low, high, convolutions=1)
        self.gate = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Conv2d(high, high, 1), nn.Sigmoid())

    def forward(self, shallow: Tensor, deep: Tensor) -> Tensor:
        """Return the deep features at the shallow ones' size."""
        gated: Tensor = self.shallow(shallow) * self.gate(deep)
        return gated + resized(deep, shallow)


class GlobalAttentionDecoder(nn.Module):
    """Global attention upsampling from level to level."""

    def __init__(self, widths: list[int], width: int) -> None:
        super().__init__()
        self.steps = nn.ModuleList(GlobalAttentionUpsample(low, width) for low in widths[::-1])

    def forward(self, features: list[Tensor], deep: Tensor) -> Tensor:
        """Return features at the finest level's size."""
        for step, shallow in zip(self.steps, features[::-1], strict=True):
            deep = step(shallow, deep)
        return deep


class FeaturePyramidDecoder(nn.Module):
    """A feature pyramid: each level added to the coarser one, smoothed, and all of them summed.

    References:
        Lin et al., "Feature Pyramid Networks for Object Detection", 2017; levels summed at the
        finest size as in Kirillov et al., "Panoptic Feature Pyramid Networks", 2019.
    """

    def __init__(self, widths: list[int], width: int) -> None:
        super().__init__()
        self.lateral = nn.ModuleList(nn.Conv2d(low, width, 1) for low in widths[::-1])
        self.smooth = nn.ModuleList(ConvBlock(width, width, convolutions=1) for _ in widths)

    def forward(self, features: list[Tensor], deep: Tensor) -> Tensor:
        """Return features at the finest level's size."""
        levels = []
        for lateral, smooth, shallow in zip(self.lateral, self.smooth, features[::-1], strict=True):
            deep = lateral(shallow) + resized(deep, shallow)
            levels.append(smooth(deep))
        return torch.stack([resized(level, features[0]) for level in levels]).sum(dim=0)


class PAN(nn.Module):
    """Images (N, channels, H, W) to logits (N, classes, H, W); H and W multiples of 8."""

    stride = 8

    def __init__(
        self, channels: int, classes: int, *, width: int, decoder: str, se: bool, dropout: float
    ) -> None:
        super().__init__()
        self.encoder = ResidualEncoder(channels, width)
        widths = self.encoder.widths[1:]
        self.reweight = nn.ModuleList(
            SqueezeExcitation(level, reduction=SE_REDUCTION) if se else nn.Identity()
            for level in widths
        )
        # Dilated instead of a fourth halving, which would leave 4 x 8 cells for the pyramid.
        self.deepest = Residual(widths[-1], widths[-1], dilation=2)
        self.attention = FeaturePyramidAttention(widths[-1], 4 * width)
        decoders = {"gau": GlobalAttentionDecoder, "fpn": FeaturePyramidDecoder}
        self.decoder = decoders[decoder](widths, 4 * width)
        self.dropout = nn.Dropout2d(dropout)
        self.head = nn.Conv2d(4 * width, classes, 1)
        he_initialise(self)

    def forward(self, images: Tensor) -> Tensor:
        """Return the logits of each pixel."""
        levels = self.encoder(images)[1:]
        levels = [each(level) for each, level in zip(self.reweight, levels, strict=True)]
        deep = self.attention(self.deepest(levels[-1]))
        return resized(self.head(self.dropout(self.decoder(levels, deep))), images)


def pan(
    channels: int,
    classes: int,
    *,
    width: Width = 16,
    decoder: Literal["gau", "fpn"] = "gau",
    se: bool = False,
    dropout: Dropout = 0.0,
) -> PAN:
    """Build a pyramid attention network; 1.3 million parameters.

    The encoder is a basic-block ResNet at output stride 8 instead of the paper's ResNet-101 at 16,
    so that the attention's pyramid can halve the 8 x 16 cells of a 64 x 128 image three times.

    Args:
        width: channels at full size; the encoder ends with 8 times as many, the decoder has 4.
        decoder: `gau`, the paper's global attention upsampling, or `fpn`, a feature pyramid.
        se: squeeze-and-excitation on each level of the encoder.
        dropout: fraction of the decoder's channels dropped in training.

    References:
        Li et al., "Pyramid Attention Network for Semantic Segmentation", 2018.
    """
    return PAN(channels, classes, width=width, decoder=decoder, se=se, dropout=dropout)
