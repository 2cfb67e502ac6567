"""U-Net: an encoder, a bottleneck, and a decoder that sees the encoder's features again."""

from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from members.architectures.blocks import ASPP, ConvBlock, he_initialise


class UNet(nn.Module):
    """Pictures (N, channels, H, W) to logits (N, classes, H, W); H and W multiples of `stride`."""

    def __init__(
        self,
        channels: int,
        classes: int,
        *,
        width: int,
        depth: int,
        convolutions: int,
        dropout: float,
        bottleneck: str,
    ) -> None:
        super().__init__()
        self.stride = 2**depth
        widths = [width * 2**level for level in range(depth + 1)]
        sources = [channels, *widths]

        def block(source: int, target: int) -> ConvBlock:
            return ConvBlock(source, target, convolutions=convolutions, dropout=dropout)

        self.encoder = nn.ModuleList(block(sources[k], widths[k]) for k in range(depth))
        self.pool = nn.MaxPool2d(2)
        self.bottleneck = (
            ASPP(widths[-2], widths[-1]) if bottleneck == "aspp" else block(widths[-2], widths[-1])
        )
        levels = range(depth - 1, -1, -1)
        self.up = nn.ModuleList(
            nn.ConvTranspose2d(widths[k + 1], widths[k], 2, stride=2) for k in levels
        )
        self.decoder = nn.ModuleList(block(2 * widths[k], widths[k]) for k in levels)
        self.head = nn.Conv2d(width, classes, 1)
        he_initialise(self)

    def forward(self, pictures: Tensor) -> Tensor:
        """Return the logits of each pixel."""
        features, skips = pictures, []
        for block in self.encoder:
            features = block(features)
            skips.append(features)
            features = self.pool(features)
        features = self.bottleneck(features)
        for up, block in zip(self.up, self.decoder, strict=True):
            features = block(torch.cat([skips.pop(), up(features)], dim=1))
        logits: Tensor = self.head(features)
        return logits


def unet(
    channels: int,
    classes: int,
    *,
    width: Annotated[int, Field(ge=1)] = 16,
    depth: Annotated[int, Field(ge=1, le=7)] = 4,
    convolutions: Annotated[int, Field(ge=1, le=4)] = 2,
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0,
    bottleneck: Literal["conv", "aspp"] = "conv",
) -> UNet:
    """Build a U-Net; 1.9 million parameters at width 16.

    Args:
        channels: of the pictures.
        classes: how many logits a pixel.
        width: channels of the first level; each level below has twice as many.
        depth: how often the picture is halved.
        convolutions: in each block.
        dropout: share of the channels dropped after each block, in training.
        bottleneck: `conv`, or `aspp` with rates 6, 12, 18 and the pooled branch.

    Source: Ronneberger et al., "U-Net: Convolutional Networks for Biomedical Image Segmentation",
        2015; with padding and batch normalisation, as is usual since.
    """
    return UNet(
        channels,
        classes,
        width=width,
        depth=depth,
        convolutions=convolutions,
        dropout=dropout,
        bottleneck=bottleneck,
    )
