"""What stands at the bottom of a U-Net."""

from typing import Literal

from torch import nn

from members.architectures.attention import SqueezeExcitation
from members.architectures.blocks import ASPP
from members.architectures.encoders import Block
from members.architectures.pyramid import PyramidPooling
from members.architectures.transformer import TransformerBlock

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
