"""U-Net with its variants, and Pix2Pix's generator, a deep and narrow U-Net."""

from collections.abc import Sequence
from functools import partial
from typing import Annotated, Literal

from pydantic import Field
from torch import Tensor, nn

from members.architectures.blocks import Activation, ConvBlock, Dropout, Width, he_initialise
from members.architectures.unet_parts import (
    BottleneckName,
    Decoder,
    Encoder,
    EncoderName,
    SkipName,
    UpName,
    build_bottleneck,
    layout,
)


class UNet(nn.Module):
    """Images (N, channels, H, W) to logits (N, classes, H, W); H and W multiples of `stride`.

    Args:
        encoder: returns features, each level at half the size of the one before.
        bottleneck: applied to the coarsest.
        decoder: upsamples to full size.
        head: maps features to logits.
    """

    def __init__(
        self, encoder: Encoder, bottleneck: nn.Module, decoder: Decoder, head: nn.Module
    ) -> None:
        super().__init__()
        self.stride = 2 ** len(encoder)
        self.encoder = encoder
        self.bottleneck = bottleneck
        self.decoder = decoder
        self.head = head
        he_initialise(self)

    def encode(self, images: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Return the bottleneck's features, and the skips, finest first."""
        *skips, deepest = self.encoder(images)
        return self.bottleneck(deepest), skips

    def decode(self, features: Tensor, skips: Sequence[Tensor]) -> Tensor:
        """Return the logits of each pixel, from what `encode` returns."""
        logits: Tensor = self.head(self.decoder(features, skips))
        return logits

    def forward(self, images: Tensor) -> Tensor:
        """Return the logits of each pixel."""
        return self.decode(*self.encode(images))


def unet(
    channels: int,
    classes: int,
    *,
    width: Width = 16,
    depth: Annotated[int, Field(ge=1, le=7)] = 4,
    convolutions: Annotated[int, Field(ge=1, le=4)] = 2,
    kernel_size: Literal[1, 3, 5, 7, 9] = 3,
    activation: Activation = "relu",
    dropout: Dropout = 0.0,
    up: UpName = "transpose",
    encoder: EncoderName = "plain",
    bottleneck: BottleneckName = "conv",
    skip: SkipName = "concat",
    se: bool = False,
) -> UNet:
    """Build a U-Net; 1.9 million parameters at width 16.

    The deep, squeeze-and-excitation, gated, attention, ASPP, pyramid and transformer U-Nets of the
    literature are options of this one.

    Args:
        width: channels of the first level; each level below has twice as many.
        depth: number of times the image is halved.
        convolutions: per block; with `encoder=vgg16`, per block of the decoder.
        kernel_size: of each convolution in a block.
        activation: after each convolution in a block.
        dropout: fraction of the channels dropped after each block, in training.
        up: a transposed convolution, or a 1 x 1 convolution and interpolation.
        encoder: `plain`, or `vgg16` with 2, 2, 3, 3, 3 convolutions and 1, 2, 4, 8, 8 times
            `width` channels, from scratch; its fifth level is the bottleneck at depth 4.
        bottleneck: `conv`, `se`, `transformer` (two layers after the convolutions), or in place of
            the convolutions `aspp` (rates 6, 12, 18 and the pooled branch) or `ppm`.
        skip: `concat`; `gate_add` or `gate_concat`, with a gate per value of the encoder's
            features; `attention`, with a gate per pixel.

    References:
        Ronneberger et al., "U-Net: Convolutional Networks for Biomedical Image Segmentation",
        2015; with padding and batch normalisation, as is usual since;
        VGG-16 is Simonyan and Zisserman, "Very Deep Convolutional Networks", 2015.

    Examples:
        >>> import torch
        >>> network = unet(1, 5, width=2).eval()
        >>> network(torch.zeros(1, 1, 64, 128)).shape
        torch.Size([1, 5, 64, 128])
    """
    widths, counts = layout(encoder, width=width, depth=depth, convolutions=convolutions)
    block = partial(
        ConvBlock,
        convolutions=convolutions,
        kernel_size=kernel_size,
        activation=activation,
        dropout=dropout,
        se=se,
    )
    decoder = Decoder(widths, block, up=up, skip=skip)
    return build_unet(channels, classes, widths, counts, block, bottleneck, decoder)


def build_unet(
    channels: int,
    classes: int,
    widths: Sequence[int],
    counts: Sequence[int],
    block: "partial[ConvBlock]",
    bottleneck: BottleneckName,
    decoder: Decoder,
) -> UNet:
    """Build a U-Net from its parts.

    Args:
        widths: channels of each level, the bottleneck's last.
        counts: convolutions of each level's block.
        block: of every level, with `dropout` and `se` set.
        bottleneck: kind of the last level.
        decoder: of the whole network.
    """
    encoder = Encoder(channels, widths[:-1], counts[:-1], block)
    bottom = build_bottleneck(
        bottleneck,
        widths[-2],
        widths[-1],
        block,
        convolutions=counts[-1],
        dropout=block.keywords["dropout"],
        se=block.keywords["se"],
    )
    return UNet(encoder, bottom, decoder, nn.Conv2d(widths[0], classes, 1))


def pix2pix(
    channels: int,
    classes: int,
    *,
    width: Width = 8,
    depth: Annotated[int, Field(ge=1, le=7)] = 5,
    dropout: Dropout = 0.2,
) -> UNet:
    """Build the generator of a Pix2Pix; 1.9 million parameters at the defaults.

    It is a member by itself; the discriminator belongs to `trainer: adversarial` and is discarded
    after training. The paper halves an image eight times with one strided convolution per level;
    here each level is a U-Net's block, and 64 x 128 pixels are halved five times. Noise comes from
    dropout, as in the paper.

    Args:
        width: channels of the first level; each level below has twice as many.
        depth: number of times the image is halved.
        dropout: fraction of the channels dropped after each block, in training.

    References:
        Isola et al., "Image-to-Image Translation with Conditional Adversarial Networks", 2017.
    """
    return unet(
        channels, classes, width=width, depth=depth, dropout=dropout, activation="leaky_relu"
    )
