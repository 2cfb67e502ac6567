"""MarsSeg: few halvings, and skips enhanced for details where shallow, for meaning where deep."""

from collections.abc import Sequence
from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor, nn

from members.architectures.blocks import (
    ConvBlock,
    PointBlock,
    ResidualEncoder,
    he_initialise,
    resized,
)
from members.architectures.context import PolarizedSelfAttention, StripPyramidPooling

SHALLOW_LEVELS = 2  # full and half size; the two below are the middle ones


class MiniASPP(nn.Module):
    """Small atrous pyramid for details: rates of a few pixels, half the channels, no pooled branch.

    A 1 x 1 branch and a dilated 3 x 3 branch for each rate, concatenated and projected.
    (N, channels, H, W) to (N, width, H, W).
    """

    def __init__(self, channels: int, width: int, *, rates: Sequence[int] = (1, 2, 3)) -> None:
        super().__init__()
        narrow = max(1, width // 2)
        self.point = PointBlock(channels, narrow)
        self.dilated = nn.ModuleList(
            ConvBlock(channels, narrow, convolutions=1, dilation=rate) for rate in rates
        )
        self.project = PointBlock((1 + len(rates)) * narrow, width)

    def forward(self, features: Tensor) -> Tensor:
        """Look at the features at every rate at once."""
        views = [self.point(features), *(branch(features) for branch in self.dilated)]
        result: Tensor = self.project(torch.cat(views, dim=1))
        return result


class MarsSeg(nn.Module):
    """Images (N, channels, H, W) to logits (N, classes, H, W); H and W multiples of 8."""

    stride = 8

    def __init__(
        self, channels: int, classes: int, *, width: int, dropout: float, deep_supervision: bool
    ) -> None:
        super().__init__()
        self.encoder = ResidualEncoder(channels, width)
        widths = self.encoder.widths
        self.enhance = nn.ModuleList(
            nn.Sequential(MiniASPP(level, level), PolarizedSelfAttention(level))
            if index < SHALLOW_LEVELS
            else StripPyramidPooling(level, level)
            for index, level in enumerate(widths)
        )
        self.decoder = nn.ModuleList(
            ConvBlock(fine + coarse, fine, dropout=dropout)
            for fine, coarse in zip(widths[-2::-1], widths[:0:-1], strict=True)
        )
        supervised = widths[-2::-1] if deep_supervision else widths[:1]
        self.heads = nn.ModuleList(nn.Conv2d(level, classes, 1) for level in supervised)
        he_initialise(self)

    def forward(self, images: Tensor) -> Tensor | tuple[Tensor, ...]:
        """Return the logits of each pixel; under deep supervision, in training, of each level."""
        skips = [
            enhance(level)
            for enhance, level in zip(self.enhance, self.encoder(images), strict=True)
        ]
        features, levels = skips.pop(), []
        for block in self.decoder:
            skip = skips.pop()
            features = block(torch.cat([skip, resized(features, skip)], dim=1))
            levels.append(features)
        if not self.training or len(self.heads) == 1:
            logits: Tensor = self.heads[-1](features)
            return logits
        outputs = [
            resized(head(level), images) for head, level in zip(self.heads, levels, strict=True)
        ]
        return tuple(outputs[::-1])


def mars_seg(
    channels: int,
    classes: int,
    *,
    width: Annotated[int, Field(ge=1)] = 16,
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0,
    deep_supervision: bool = False,
) -> MarsSeg:
    """Build a network after MarsSeg; 1.3 million parameters.

    Images (N, channels, H, W) to logits (N, classes, H, W); in training under deep supervision
    three such, the main one first. From the paper's abstract and summaries, which is what we had
    of it: an encoder with few halvings, Mini-ASPP and polarized self-attention on the shallow
    skips, the strip pyramid pooling module on the deep ones, a decoder with a loss at its levels.
    Ours is the rest: three halvings in a basic-block ResNet, two levels of either kind, the rates,
    the bands, and a decoder of two 3 x 3 convolutions a level.

    Args:
        channels: of the images.
        classes: how many logits a pixel.
        width: channels at full size; the encoder ends with 8 times as many.
        dropout: share of the channels dropped after each decoder level, in training.
        deep_supervision: whether every level of the decoder answers, as the paper trains it.

    Source: Li et al., "MarsSeg: Mars Surface Semantic Segmentation with Multi-level Extractor and
        Connector", 2024.
    """
    return MarsSeg(
        channels, classes, width=width, dropout=dropout, deep_supervision=deep_supervision
    )
