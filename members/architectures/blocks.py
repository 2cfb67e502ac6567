"""Blocks that several networks are built from."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from members.architectures.attention import SqueezeExcitation

Activation = Literal["relu", "leaky_relu", "elu", "gelu"]

ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {
    "relu": partial(nn.ReLU, inplace=True),
    "leaky_relu": partial(nn.LeakyReLU, inplace=True),
    "elu": partial(nn.ELU, inplace=True),
    "gelu": nn.GELU,
}


class ConvBlock(nn.Sequential):
    """Convolutions with batch normalisation and activation, dropout at the end; keeps the size.

    Args:
        channels: of the input.
        width: channels of the output.
        convolutions: how many, one after the other.
        dropout: share of the channels dropped in training.
        dilation: of every convolution, in pixels.
        kernel_size: of every convolution, odd.
        activation: after each normalisation.
        se: whether to end with squeeze-and-excitation (before the dropout).
    """

    def __init__(
        self,
        channels: int,
        width: int,
        *,
        convolutions: int = 2,
        dropout: float = 0.0,
        dilation: int = 1,
        kernel_size: int = 3,
        activation: Activation = "relu",
        se: bool = False,
    ) -> None:
        padding = dilation * (kernel_size // 2)
        layers: list[nn.Module] = []
        for index in range(convolutions):
            source = channels if index == 0 else width
            layers += [
                nn.Conv2d(
                    source, width, kernel_size, padding=padding, dilation=dilation, bias=False
                ),
                nn.BatchNorm2d(width),
                ACTIVATIONS[activation](),
            ]
        if se:
            layers.append(SqueezeExcitation(width))
        if dropout:
            layers.append(nn.Dropout2d(dropout))
        super().__init__(*layers)


class PointBlock(nn.Sequential):
    """A convolution 1 x 1 with batch normalisation and ReLU."""

    def __init__(self, channels: int, width: int) -> None:
        super().__init__(
            nn.Conv2d(channels, width, 1, bias=False), nn.BatchNorm2d(width), nn.ReLU(inplace=True)
        )


class ASPP(nn.Module):
    """Atrous spatial pyramid pooling: one view at several rates, and of the whole picture.

    A 1 x 1 branch, a dilated 3 x 3 branch for each rate, and the mean over the picture, all of
    `width` channels, concatenated and projected to `width`. (N, channels, H, W) to
    (N, width, H, W).

    Source: Chen et al., "Rethinking Atrous Convolution for Semantic Image Segmentation", 2017.
    """

    def __init__(self, channels: int, width: int, *, rates: Sequence[int] = (6, 12, 18)) -> None:
        super().__init__()
        self.point = PointBlock(channels, width)
        self.dilated = nn.ModuleList(
            ConvBlock(channels, width, convolutions=1, dilation=rate) for rate in rates
        )
        # No normalisation here: a batch of one picture has no variance to normalise by.
        self.pooled = nn.Sequential(
            nn.AdaptiveAvgPool2d(1), nn.Conv2d(channels, width, 1), nn.ReLU(inplace=True)
        )
        self.project = PointBlock((2 + len(rates)) * width, width)

    def forward(self, features: Tensor) -> Tensor:
        """Look at the features at every rate at once."""
        pooled = self.pooled(features).expand(-1, -1, *features.shape[2:])
        views = [self.point(features), *(branch(features) for branch in self.dilated), pooled]
        result: Tensor = self.project(torch.cat(views, dim=1))
        return result


def resized(features: Tensor, like: Tensor) -> Tensor:
    """Return the features at the size of `like`, interpolated bilinearly."""
    return functional.interpolate(
        features, size=like.shape[2:], mode="bilinear", align_corners=False
    )


def he_initialise(network: nn.Module) -> None:
    """Draw convolution weights as for ReLU networks, biases 0.

    Source: He et al., "Delving Deep into Rectifiers", 2015.
    """
    for layer in network.modules():
        if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d):
            nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)
