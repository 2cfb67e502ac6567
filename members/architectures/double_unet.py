"""Double U-Net: a second U-Net sees the image, the first one's prediction and its features."""

from functools import partial
from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor, nn

from members.architectures.blocks import ConvBlock
from members.architectures.unet import UNet, assembled
from members.architectures.unet_parts import BottleneckName, Decoder, layout


class DoubleUNet(nn.Module):
    """Images (N, channels, H, W) to logits (N, classes, H, W); H and W multiples of `stride`.

    `parts` are the U-Nets in the order in which they can be trained one by one; output number
    `len(parts) - 1 - k` in training is that of part k.

    Args:
        first: sees the images.
        second: sees images and class probabilities; its decoder joins the skips of both.
    """

    def __init__(self, first: UNet, second: UNet) -> None:
        super().__init__()
        self.stride = first.stride
        self.first = first
        self.second = second

    @property
    def parts(self) -> tuple[UNet, ...]:
        """The U-Nets, the one to train first first."""
        return self.first, self.second

    def forward(self, images: Tensor) -> Tensor | tuple[Tensor, ...]:
        """Return the second's logits; in training, the first's after them."""
        features, skips = self.first.encode(images)
        pred = self.first.decode(features, skips)
        features, own = self.second.encode(torch.cat([images, pred.softmax(dim=1)], dim=1))
        both = [torch.cat(pair, dim=1) for pair in zip(skips, own, strict=True)]
        logits = self.second.decode(features, both)
        return (logits, pred) if self.training else logits


def double_unet(
    channels: int,
    classes: int,
    *,
    width: Annotated[int, Field(ge=1)] = 12,
    depth: Annotated[int, Field(ge=1, le=7)] = 4,
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0,
    bottleneck: BottleneckName = "aspp",
    se: bool = True,
) -> DoubleUNet:
    """Build two cascaded U-Nets with fused features; 2.8 million parameters at the defaults.

    The paper multiplies the image by the first network's mask; with several classes there is no
    one mask, so here the class probabilities stand next to the image. The first encoder is not
    a pre-trained VGG-19 but like the second. Images (N, channels, H, W) to logits
    (N, classes, H, W).

    Args:
        channels: of the images.
        classes: how many logits a pixel.
        width: channels of the first level; each level below has twice as many.
        depth: how often the image is halved.
        dropout: share of the channels dropped after each block, in training.
        bottleneck: of both, as in `unet`.
        se: squeeze-and-excitation after every block.

    Source: Jha et al., "DoubleU-Net: A Deep Convolutional Neural Network for Medical Image
        Segmentation", 2020.
    """
    widths, counts = layout("plain", width=width, depth=depth, convolutions=2)
    block = partial(ConvBlock, dropout=dropout, se=se)

    def part(source: int, *, encoders: int) -> UNet:
        decoder = Decoder(widths, block, skips=[encoders * each for each in widths])
        return assembled(source, classes, widths, counts, block, bottleneck, decoder)

    return DoubleUNet(part(channels, encoders=1), part(channels + classes, encoders=2))
