"""U-Net: an encoder, a bottleneck, and a decoder that sees the encoder's features again.

Pix2Pix's generator: a deep, narrow U-Net that a discriminator can train.
"""

from collections.abc import Sequence
from functools import partial
from typing import Annotated, Literal

from pydantic import Field
from torch import Tensor, nn

from members.architectures.blocks import Activation, ConvBlock, he_initialise
from members.architectures.unet_parts import (
    BottleneckName,
    Decoder,
    Encoder,
    EncoderName,
    SkipName,
    UpName,
    bottom,
    layout,
)


class UNet(nn.Module):
    """Images (N, channels, H, W) to logits (N, classes, H, W); H and W multiples of `stride`.

    Args:
        encoder: finds features, each level at half the size.
        bottleneck: works on the coarsest.
        decoder: brings them back to full size.
        head: from its features to logits.
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
    width: Annotated[int, Field(ge=1)] = 16,
    depth: Annotated[int, Field(ge=1, le=7)] = 4,
    convolutions: Annotated[int, Field(ge=1, le=4)] = 2,
    kernel_size: Literal[1, 3, 5, 7, 9] = 3,
    activation: Activation = "relu",
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0,
    up: UpName = "transpose",
    encoder: EncoderName = "plain",
    bottleneck: BottleneckName = "conv",
    skip: SkipName = "concat",
    se: bool = False,
) -> UNet:
    """Build a U-Net; 1.9 million parameters at width 16.

    The deep, squeeze-and-excitation, gated, attention, ASPP, pyramid and transformer U-Nets of the
    literature are options of this one. Images (N, channels, H, W) to logits (N, classes, H, W).

    Args:
        channels: of the images.
        classes: how many logits a pixel.
        width: channels of the first level; each level below has twice as many.
        depth: how often the image is halved.
        convolutions: in each block; with `encoder=vgg16`, of the decoder's.
        kernel_size: of each convolution in a block.
        activation: after each convolution in a block.
        dropout: share of the channels dropped after each block, in training.
        up: a transposed convolution, or a 1 x 1 convolution and interpolation.
        encoder: `plain`, or `vgg16` with 2, 2, 3, 3, 3 convolutions and 1, 2, 4, 8, 8 times
            `width` channels, from scratch; its fifth level is the bottleneck at depth 4.
        bottleneck: `conv`, `se`, `transformer` (two layers after the convolutions), or in place of
            the convolutions `aspp` (rates 6, 12, 18 and the pooled branch) or `ppm`.
        skip: `concat`; `gate_add` or `gate_concat`, where a gate a value weighs the encoder's
            features; `attention`, with a gate a pixel.
        se: squeeze-and-excitation after every block.

    Source: Ronneberger et al., "U-Net: Convolutional Networks for Biomedical Image Segmentation",
        2015; with padding and batch normalisation, as is usual since. The blocks name their own;
        VGG-16 is Simonyan and Zisserman, "Very Deep Convolutional Networks", 2015.
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
    return assembled(channels, classes, widths, counts, block, bottleneck, decoder)


def assembled(
    channels: int,
    classes: int,
    widths: Sequence[int],
    counts: Sequence[int],
    block: "partial[ConvBlock]",
    bottleneck: BottleneckName,
    decoder: Decoder,
) -> UNet:
    """Put a U-Net together.

    Args:
        channels: that come in.
        classes: how many logits a pixel.
        widths: channels of each level, the bottleneck's last.
        counts: convolutions of each level's block.
        block: of every level, with its dropout and squeeze-and-excitation.
        bottleneck: what the last level is.
        decoder: the way up.
    """
    encoder = Encoder(channels, widths[:-1], counts[:-1], block)
    last = bottom(
        bottleneck,
        widths[-2],
        widths[-1],
        block,
        convolutions=counts[-1],
        dropout=block.keywords["dropout"],
        se=block.keywords["se"],
    )
    return UNet(encoder, last, decoder, nn.Conv2d(widths[0], classes, 1))


def pix2pix(
    channels: int,
    classes: int,
    *,
    width: Annotated[int, Field(ge=1)] = 8,
    depth: Annotated[int, Field(ge=1, le=7)] = 5,
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.2,
) -> UNet:
    """Build the generator of a Pix2Pix; 1.9 million parameters at the defaults.

    It is a member by itself; the discriminator belongs to `procedure: adversarial` and is left
    behind after training. The paper halves an image eight times with one strided convolution a
    level; here each level is a U-Net's block, and 64 x 128 pixels are halved five times. The
    paper's noise comes through dropout, as here. Images (N, channels, H, W) to logits
    (N, classes, H, W).

    Args:
        channels: of the images.
        classes: how many logits a pixel.
        width: channels of the first level; each level below has twice as many.
        depth: how often the image is halved.
        dropout: share of the channels dropped after each block, in training.

    Source: Isola et al., "Image-to-Image Translation with Conditional Adversarial Networks", 2017.
    """
    return unet(
        channels, classes, width=width, depth=depth, dropout=dropout, activation="leaky_relu"
    )
