"""U-Net++: nested skip connections, each a small decoder."""

from functools import partial
from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor, nn

from members.architectures.blocks import ConvBlock, Dropout, Width, he_initialise
from members.architectures.unet_parts import Block, Encoder, UpName, layout, upsampling


class Column(nn.Module):
    """The nodes of one column, each joining those before it at its level with the one below.

    Args:
        number: of the column; the encoder is column 0.
        widths: channels of each level, finest first.
        block: builds a block of convolutions.
        up: how to double the size.
    """

    def __init__(self, number: int, widths: list[int], block: Block, up: UpName) -> None:
        super().__init__()
        levels = range(len(widths) - number)
        self.ups = nn.ModuleList(upsampling(up, widths[k + 1], widths[k]) for k in levels)
        self.nodes = nn.ModuleList(block((number + 1) * widths[k], widths[k]) for k in levels)

    def forward(self, rows: list[list[Tensor]]) -> list[Tensor]:
        """Return each node's features, finest first, from those of each level so far."""
        steps = zip(self.ups, self.nodes, rows, rows[1:], strict=False)
        return [node(torch.cat([*row, up(below[-1])], dim=1)) for up, node, row, below in steps]


class UNetPlusPlus(nn.Module):
    """Images (N, channels, H, W) to logits (N, classes, H, W); H and W multiples of `stride`.

    The nodes form a triangle: node (level, column) joins all nodes before it at its level with the
    one below and before it. Column 0 is the encoder.

    Args:
        widths: channels of each level, finest first.
        block: builds a block of convolutions.
        up: how to double the size.
        deep_supervision: whether every column has logits of its own.
    """

    def __init__(
        self,
        channels: int,
        classes: int,
        *,
        widths: list[int],
        block: Block,
        up: UpName,
        deep_supervision: bool,
    ) -> None:
        super().__init__()
        depth = len(widths) - 1
        self.stride = 2**depth
        counts = [2] * depth
        self.encoder = Encoder(channels, widths[:-1], counts, block)
        self.bottleneck = block(widths[-2], widths[-1])
        self.columns = nn.ModuleList(
            Column(number, widths, block, up) for number in range(1, depth + 1)
        )
        heads = depth if deep_supervision else 1
        self.heads = nn.ModuleList(nn.Conv2d(widths[0], classes, 1) for _ in range(heads))
        he_initialise(self)

    def forward(self, images: Tensor) -> Tensor | tuple[Tensor, ...]:
        """Return the logits; with deep supervision in training, each column's, the last first."""
        *levels, deepest = self.encoder(images)
        rows = [[features] for features in (*levels, self.bottleneck(deepest))]
        for column in self.columns:
            for row, features in zip(rows, column(rows), strict=False):
                row.append(features)
        finest = rows[0][:0:-1]
        outputs = tuple(head(features) for head, features in zip(self.heads, finest, strict=False))
        if len(outputs) > 1 and self.training:
            return outputs
        return torch.stack(outputs).mean(dim=0)


def unet_plus_plus(
    channels: int,
    classes: int,
    *,
    width: Width = 16,
    depth: Annotated[int, Field(ge=1, le=7)] = 4,
    dropout: Dropout = 0.0,
    up: UpName = "transpose",
    deep_supervision: bool = False,
    se: bool = False,
) -> UNetPlusPlus:
    """Build a U-Net++; 2.3 million parameters at width 16.

    Args:
        width: channels of the first level; each level below has twice as many.
        depth: number of times the image is halved.
        dropout: fraction of the channels dropped after each block, in training.
        up: a transposed convolution, or a 1 x 1 convolution and interpolation.
        deep_supervision: train logits after every column of nodes, and predict their mean (the
            paper's accurate mode, here of logits).

    References:
        Zhou et al., "UNet++: A Nested U-Net Architecture for Medical Image Segmentation", 2018.
    """
    widths, _ = layout("plain", width=width, depth=depth, convolutions=2)
    return UNetPlusPlus(
        channels,
        classes,
        widths=widths,
        block=partial(ConvBlock, dropout=dropout, se=se),
        up=up,
        deep_supervision=deep_supervision,
    )
