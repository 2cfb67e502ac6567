"""Pix2Pix's generator: a deep, narrow U-Net that a discriminator can train."""

from typing import Annotated

from pydantic import Field

from members.architectures.unet import UNet, unet


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
    behind after training. The paper halves a picture eight times with one strided convolution a
    level; here each level is a U-Net's block, and 64 x 128 pixels are halved five times. The
    paper's noise comes through dropout, as here. Pictures (N, channels, H, W) to logits
    (N, classes, H, W).

    Args:
        channels: of the pictures.
        classes: how many logits a pixel.
        width: channels of the first level; each level below has twice as many.
        depth: how often the picture is halved.
        dropout: share of the channels dropped after each block, in training.

    Source: Isola et al., "Image-to-Image Translation with Conditional Adversarial Networks", 2017.
    """
    return unet(
        channels, classes, width=width, depth=depth, dropout=dropout, activation="leaky_relu"
    )
