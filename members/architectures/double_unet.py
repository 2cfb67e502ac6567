"""Double U-Net: a second U-Net gets the image and the first one's prediction and features."""

from functools import partial
from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor, nn

from members.architectures.blocks import ConvBlock, Dropout, Width
from members.architectures.unet import UNet, build_unet
from members.architectures.unet_parts import BottleneckName, Decoder, layout


class DoubleUNet(nn.Module):
    """Images (N, channels, H, W) to logits (N, classes, H, W); H and W multiples of `stride`.

    `parts` are the U-Nets in the order in which they can be trained one by one; output number
    `len(parts) - 1 - k` in training is that of part k.

    Args:
        first: gets the images.
        second: gets images and class probabilities; its decoder joins the skips of both.
    """

    def __init__(self, first: UNet, second: UNet) -> None:
        super().__init__()
        self.stride = first.stride
        self.first = first
        self.second = second

    @property
    def parts(self) -> tuple[UNet, ...]:
        """The U-Nets in the order of training."""
        return self.first, self.second

    def forward(self, images: Tensor) -> Tensor | tuple[Tensor, ...]:
        """Return the second's logits; in training, the first's after them."""
        features, skips = self.first.encode(images)
        pred = self.first.decode(features, skips)
        features, more_skips = self.second.encode(torch.cat([images, pred.softmax(dim=1)], dim=1))
        skips = [torch.cat(pair, dim=1) for pair in zip(skips, more_skips, strict=True)]
        logits = self.second.decode(features, skips)
        return (logits, pred) if self.training else logits


def double_unet(
    channels: int,
    classes: int,
    *,
    width: Width = 12,
    depth: Annotated[int, Field(ge=1, le=7)] = 4,
    dropout: Dropout = 0.0,
    bottleneck: BottleneckName = "aspp",
    se: bool = True,
) -> DoubleUNet:
    """Build two cascaded U-Nets with joined features; 2.8 million parameters at the defaults.

    The paper multiplies the image by the first network's mask; here, with several classes, the
    class probabilities are concatenated with the image. The first encoder is like the second, not a
    pre-trained VGG-19.

    Args:
        width: channels of the first level; each level below has twice as many.
        depth: number of times the image is halved.
        dropout: fraction of the channels dropped after each block, in training.
        bottleneck: of both, as in `unet`.
        se: squeeze-and-excitation in every block, as in the paper.

    References:
        Jha et al., "DoubleU-Net: A Deep Convolutional Neural Network for Medical Image
        Segmentation", CBMS 2020.
    """
    widths, counts = layout("plain", width=width, depth=depth, convolutions=2)
    block = partial(ConvBlock, dropout=dropout, se=se)

    def part(source: int, *, encoders: int) -> UNet:
        decoder = Decoder(widths, block, skips=[encoders * level for level in widths])
        return build_unet(source, classes, widths, counts, block, bottleneck, decoder)

    return DoubleUNet(part(channels, encoders=1), part(channels + classes, encoders=2))
