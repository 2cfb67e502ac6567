"""Parts of U-Nets: encoder, skip connections, decoder and bottleneck."""

from collections.abc import Callable, Sequence
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from members.architectures.blocks import ASPP, AttentionGate, FeatureGate, SqueezeExcitation
from members.architectures.context import PyramidPooling
from members.architectures.transformer import TransformerBlock

EncoderName = Literal["plain", "vgg16"]

VGG16_CONVOLUTIONS = (2, 2, 3, 3, 3)  # Simonyan and Zisserman 2015, table 1, column D
VGG16_WIDENING = (1, 2, 4, 8, 8)

Block = Callable[..., nn.Module]
"""Builds a block: (channels, width, *, convolutions, se); the last two are optional."""


def layout(
    encoder: EncoderName, *, width: int, depth: int, convolutions: int
) -> tuple[list[int], list[int]]:
    """Return channels and convolutions of each level, the bottleneck last.

    Levels below VGG-16's fifth are like the fifth.
    """
    levels = range(depth + 1)
    if encoder == "plain":
        return [width * 2**level for level in levels], [convolutions for _ in levels]
    last = len(VGG16_CONVOLUTIONS) - 1
    return (
        [width * VGG16_WIDENING[min(level, last)] for level in levels],
        [VGG16_CONVOLUTIONS[min(level, last)] for level in levels],
    )


class Encoder(nn.ModuleList):
    """Blocks, each with a pooling after it: (N, channels, H, W) to a list of features.

    Level k of the list has `widths[k]` channels and 1 / 2**k of the size; the last entry is the
    pooled features of the last block.

    Args:
        widths: channels of each block.
        convolutions: number in each block.
        block: builds a block.
    """

    def __init__(
        self, channels: int, widths: Sequence[int], convolutions: Sequence[int], block: Block
    ) -> None:
        sources = [channels, *widths]
        super().__init__(
            block(source, width, convolutions=count)
            for source, width, count in zip(sources[:-1], widths, convolutions, strict=True)
        )

    def forward(self, features: Tensor) -> list[Tensor]:
        """Return the features of each block, then the last of them pooled."""
        levels = []
        for block in self:
            levels.append(block(features))
            features = functional.max_pool2d(levels[-1], 2)
        return [*levels, features]


SkipName = Literal["concat", "gate_add", "gate_concat", "attention"]


class Skip(nn.Module):
    """Joins skip (N, skip, H, W) and features (N, width, H, W) to (N, merged, H, W).

    `concat` concatenates them; `gate_add` and `gate_concat` first weight each value of the skip,
    `attention` each pixel of it. A gate needs a skip as wide as the features.

    Args:
        kind: how to join.
        width: channels of the features.
        skip: channels of the skip; by default those of the features.
    """

    def __init__(self, kind: SkipName, width: int, skip: int | None = None) -> None:
        super().__init__()
        self.adds = kind == "gate_add"
        self.merged = width if self.adds else width + (skip or width)
        self.gate: nn.Module | None = None
        if kind != "concat":
            self.gate = AttentionGate(width) if kind == "attention" else FeatureGate(width)

    def forward(self, skip: Tensor, features: Tensor) -> Tensor:
        """Weight the skip by the features, then add or concatenate."""
        weighted = skip if self.gate is None else self.gate(skip, features)
        return weighted + features if self.adds else torch.cat([weighted, features], dim=1)


UpName = Literal["transpose", "bilinear"]


def upsampling(kind: UpName, channels: int, width: int) -> nn.Module:
    """Build a module that doubles the size, (N, channels, H, W) to (N, width, 2 H, 2 W)."""
    if kind == "transpose":
        return nn.ConvTranspose2d(channels, width, 2, stride=2)
    # The 1 x 1 convolution and the interpolation commute; this order is cheaper.
    return nn.Sequential(
        nn.Conv2d(channels, width, 1), nn.Upsample(scale_factor=2.0, mode="bilinear")
    )


class Decoder(nn.Module):
    """Upsample level by level, joining the encoder's features.

    Args:
        widths: channels of each level, finest first, the bottleneck's last.
        block: builds a block of convolutions.
        up: how to double the size.
        skip: how to join.
        skips: channels of each level's skip; by default those of the level.
    """

    def __init__(
        self,
        widths: Sequence[int],
        block: Block,
        *,
        up: UpName = "transpose",
        skip: SkipName = "concat",
        skips: Sequence[int] | None = None,
    ) -> None:
        super().__init__()
        levels = range(len(widths) - 2, -1, -1)
        skip_widths = skips or widths
        self.ups = nn.ModuleList(upsampling(up, widths[k + 1], widths[k]) for k in levels)
        self.skips = nn.ModuleList(Skip(skip, widths[k], skip_widths[k]) for k in levels)
        self.blocks = nn.ModuleList(
            block(join.merged, widths[k]) for k, join in zip(levels, self.skips, strict=True)
        )

    def forward(self, features: Tensor, skips: Sequence[Tensor]) -> Tensor:
        """Return the finest features; the skips come finest first."""
        steps = zip(self.ups, self.skips, self.blocks, reversed(skips), strict=True)
        for upsample, join, block, skip in steps:
            features = block(join(skip, upsample(features)))
        return features


BottleneckName = Literal["conv", "se", "aspp", "ppm", "transformer"]


def build_bottleneck(
    kind: BottleneckName,
    channels: int,
    width: int,
    block: Block,
    *,
    convolutions: int,
    dropout: float,
    se: bool,
) -> nn.Module:
    """Build a bottleneck, (N, channels, H, W) to (N, width, H, W).

    `conv` is a block like the others, `se` one with squeeze-and-excitation, `transformer` one
    followed by transformer layers; `aspp` and `ppm` replace the block.

    Args:
        kind: of the bottleneck.
        channels: of the input.
        width: channels of the output.
        block: builds a block of convolutions.
        convolutions: number in that block.
        dropout: of the transformer layers.
        se: squeeze-and-excitation in a bottleneck of any kind.
    """
    if kind in ("aspp", "ppm"):
        pooling = (ASPP if kind == "aspp" else PyramidPooling)(channels, width)
        return nn.Sequential(pooling, SqueezeExcitation(width)) if se else pooling
    convolved = block(channels, width, convolutions=convolutions, se=se or kind == "se")
    if kind == "transformer":
        return nn.Sequential(convolved, TransformerBlock(width, dropout=dropout))
    return convolved
