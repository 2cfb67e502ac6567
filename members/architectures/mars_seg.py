"""MarsSeg: few poolings, and skips enhanced by attention if shallow, by strip pooling if deep."""

from itertools import pairwise

import torch
from torch import Tensor, nn

from members.architectures.blocks import (
    ASPP,
    ConvBlock,
    Dropout,
    ResidualEncoder,
    Width,
    he_initialise,
    resized,
)
from members.architectures.context import PolarizedSelfAttention, StripPyramidPooling

SHALLOW_LEVELS = 2  # full and half size


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
            nn.Sequential(_mini_aspp(level), PolarizedSelfAttention(level))
            if index < SHALLOW_LEVELS
            else StripPyramidPooling(level, level)
            for index, level in enumerate(widths)
        )
        self.decoder = nn.ModuleList(
            ConvBlock(fine + coarse, fine, dropout=dropout)
            for coarse, fine in pairwise(widths[::-1])
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


def _mini_aspp(width: int) -> ASPP:
    """Build the Mini-ASPP, for details: rates of a few pixels, narrow branches, no pooled one."""
    return ASPP(width, width, rates=(1, 2, 3), branch_width=max(1, width // 2), pooled=False)


def mars_seg(
    channels: int,
    classes: int,
    *,
    width: Width = 16,
    dropout: Dropout = 0.0,
    deep_supervision: bool = False,
) -> MarsSeg:
    """Build a network after MarsSeg; 1.3 million parameters.

    From the paper's abstract and summaries, as its text was not available: an encoder with few
    poolings, Mini-ASPP and polarized self-attention on the shallow skips, the strip pyramid pooling
    module on the deep ones, a decoder with a loss at its levels. The rest is ours: three halvings
    in a basic-block ResNet, two levels of either kind, the rates, the bands, and a decoder of two
    3 x 3 convolutions per level.

    Args:
        width: channels at full size; the encoder ends with 8 times as many.
        dropout: fraction of the channels dropped after each decoder level, in training.
        deep_supervision: train logits of every level of the decoder, as in the paper.

    References:
        Li et al., "MarsSeg: Mars Surface Semantic Segmentation with Multi-level Extractor and
        Connector", 2024.
    """
    return MarsSeg(
        channels, classes, width=width, dropout=dropout, deep_supervision=deep_supervision
    )
