"""The encoders that the U-Nets share: blocks of convolutions with a pooling after each.

The decoder that the U-Nets share: up, join the skip, convolve.

How the encoder's features come to the decoder's of the same size.

What stands at the bottom of a U-Net.
"""

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
"""Makes a block: (channels, width, *, convolutions, se), the last two if other than usual."""


def layout(
    encoder: EncoderName, *, width: int, depth: int, convolutions: int
) -> tuple[list[int], list[int]]:
    """Return channels and convolutions of each level, the bottleneck's as the last.

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
    """Blocks with a pooling after each: (N, channels, H, W) to one list of features, finest first.

    Level k of the list has `widths[k]` channels and 1 / 2**k of the size; its last entry is the
    pooled features of the last block.

    Args:
        channels: of the images.
        widths: channels of each block.
        convolutions: of each block.
        block: makes them.
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
        """Return what each block finds, then the last of it pooled."""
        found = []
        for block in self:
            found.append(block(features))
            features = functional.max_pool2d(found[-1], 2)
        return [*found, features]


SkipName = Literal["concat", "gate_add", "gate_concat", "attention"]


class Skip(nn.Module):
    """Skip (N, skip, H, W) and features (N, width, H, W) to both together, (N, merged, H, W).

    `concat` puts them next to each other; `gate_add` and `gate_concat` first weigh each value of
    the skip, `attention` each place of it. A gate needs a skip as wide as the features.

    Args:
        kind: which.
        width: channels of the features.
        skip: channels of the skip; those of the features if not given.
    """

    def __init__(self, kind: SkipName, width: int, skip: int | None = None) -> None:
        super().__init__()
        self.adds = kind == "gate_add"
        self.merged = width if self.adds else width + (skip or width)
        self.gate: nn.Module | None = None
        if kind != "concat":
            self.gate = AttentionGate(width) if kind == "attention" else FeatureGate(width)

    def forward(self, skip: Tensor, features: Tensor) -> Tensor:
        """Weigh the skip by the features, then add it or put it before them."""
        weighed = skip if self.gate is None else self.gate(skip, features)
        return weighed + features if self.adds else torch.cat([weighed, features], dim=1)


UpName = Literal["transpose", "bilinear"]


def upsampling(kind: UpName, channels: int, width: int) -> nn.Module:
    """Build what doubles the size, (N, channels, H, W) to (N, width, 2 H, 2 W)."""
    if kind == "transpose":
        return nn.ConvTranspose2d(channels, width, 2, stride=2)
    # The 1 x 1 convolution and the interpolation commute; this way round it has a quarter to do.
    return nn.Sequential(
        nn.Conv2d(channels, width, 1), nn.Upsample(scale_factor=2.0, mode="bilinear")
    )


class Decoder(nn.Module):
    """From the coarsest features to the finest, joining those of the encoder on the way.

    Args:
        widths: channels of each level, finest first, the bottleneck's last.
        block: makes a block of convolutions.
        up: how to double the size.
        skip: how to join.
        skips: channels of what is joined at each level; those of the level if not given.
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
        joined = skips or widths
        self.ups = nn.ModuleList(upsampling(up, widths[k + 1], widths[k]) for k in levels)
        self.skips = nn.ModuleList(Skip(skip, widths[k], joined[k]) for k in levels)
        self.blocks = nn.ModuleList(
            block(join.merged, widths[k]) for k, join in zip(levels, self.skips, strict=True)
        )

    def forward(self, features: Tensor, skips: Sequence[Tensor]) -> Tensor:
        """Return the finest features; the skips come finest first."""
        steps = zip(self.ups, self.skips, self.blocks, reversed(skips), strict=True)
        for enlarge, join, block, skip in steps:
            features = block(join(skip, enlarge(features)))
        return features


BottleneckName = Literal["conv", "se", "aspp", "ppm", "transformer"]


def bottom(
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
    with transformer layers after it; `aspp` and `ppm` stand in place of a block.

    Args:
        kind: which.
        channels: of the input.
        width: channels of the output.
        block: makes a block of convolutions.
        convolutions: of that block.
        dropout: of the transformer's layers.
        se: whether to weigh the channels of whatever it is.
    """
    if kind in ("aspp", "ppm"):
        pooling = (ASPP if kind == "aspp" else PyramidPooling)(channels, width)
        return nn.Sequential(pooling, SqueezeExcitation(width)) if se else pooling
    convolved = block(channels, width, convolutions=convolutions, se=se or kind == "se")
    if kind == "transformer":
        return nn.Sequential(convolved, TransformerBlock(width, dropout=dropout))
    return convolved
