"""Blocks that several networks are built from.

Residual blocks, and the encoder built from them that several networks share.

Blocks that weigh features: squeeze-and-excitation by channel, the attention gate by place.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

REDUCTION = 16
"""Channels a squeezed one, as in the paper."""
LEAST = 4  # narrower than this, a dead ReLU would leave every channel the same weight for good


class SqueezeExcitation(nn.Module):
    """Weigh each channel by what the whole image holds; (N, width, H, W) to the same.

    Source: Hu et al., "Squeeze-and-Excitation Networks", 2018.
    """

    def __init__(self, width: int, *, reduction: int = REDUCTION) -> None:
        super().__init__()
        squeezed = max(LEAST, width // reduction)
        self.squeeze = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Conv2d(width, squeezed, 1))
        self.excite = nn.Sequential(
            nn.ReLU(inplace=True), nn.Conv2d(squeezed, width, 1), nn.Sigmoid()
        )

    def forward(self, features: Tensor) -> Tensor:
        """Multiply each channel by its weight, 0 to 1."""
        weights: Tensor = self.excite(self.squeeze(features))
        return features * weights


class AttentionGate(nn.Module):
    """Weigh each place of a skip by what the decoder looks for.

    The weight is one a pixel, sigmoid(psi(relu(W skip + V signal))). The paper's signal comes from
    the level below and its weights are resampled; here the decoder has brought it up already.
    Skip and signal (N, width, H, W) to the weighed skip, the same.

    Args:
        width: channels of the skip.
        signal: channels of the signal; those of the skip if not given.

    Source: Oktay et al., "Attention U-Net: Learning Where to Look for the Pancreas", 2018.
    """

    def __init__(self, width: int, signal: int | None = None) -> None:
        super().__init__()
        between = max(LEAST, width // 2)
        self.of_skip = nn.Conv2d(width, between, 1, bias=False)
        self.of_signal = nn.Conv2d(signal or width, between, 1)
        self.weigh = nn.Sequential(nn.ReLU(inplace=True), nn.Conv2d(between, 1, 1), nn.Sigmoid())

    def forward(self, skip: Tensor, signal: Tensor) -> Tensor:
        """Multiply each place of the skip by its weight, 0 to 1."""
        weights: Tensor = self.weigh(self.of_skip(skip) + self.of_signal(signal))
        return skip * weights


class FeatureGate(nn.Module):
    """Weigh each value of a skip by the skip and the decoder's features, as a gated unit does.

    The weight is one a pixel and channel, sigmoid(W [skip, features]). Skip and features
    (N, width, H, W) to the weighed skip, the same.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.weigh = nn.Sequential(nn.Conv2d(2 * width, width, 1), nn.Sigmoid())

    def forward(self, skip: Tensor, features: Tensor) -> Tensor:
        """Multiply each value of the skip by its weight, 0 to 1."""
        weights: Tensor = self.weigh(torch.cat([skip, features], dim=1))
        return skip * weights


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
    """Atrous spatial pyramid pooling: one view at several rates, and of the whole image.

    A 1 x 1 branch, a dilated 3 x 3 branch for each rate, and the mean over the image, all of
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
        # No normalisation here: a batch of one image has no variance to normalise by.
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


class Residual(nn.Module):
    """Two convolutions with a shortcut, as in ResNet's basic block."""

    def __init__(self, channels: int, width: int, *, stride: int = 1, dilation: int = 1) -> None:
        super().__init__()
        self.first = nn.Sequential(
            nn.Conv2d(
                channels, width, 3, stride=stride, padding=dilation, dilation=dilation, bias=False
            ),
            nn.BatchNorm2d(width),
            nn.ReLU(inplace=True),
        )
        self.second = nn.Sequential(
            nn.Conv2d(width, width, 3, padding=dilation, dilation=dilation, bias=False),
            nn.BatchNorm2d(width),
        )
        self.stride = stride
        self.shortcut: nn.Module = nn.Identity()
        if stride > 1 or channels != width:
            self.shortcut = nn.Sequential(
                nn.Conv2d(channels, width, 1, bias=False), nn.BatchNorm2d(width)
            )

    def forward(self, features: Tensor) -> Tensor:
        """Add what the convolutions find to the features."""
        # A 1 x 1 convolution of every second pixel: the same as one with stride 2, whose bfloat16
        # gradient corrupts memory in torch 2.13 on a CPU (8 channels, channels last).
        passed = features[:, :, :: self.stride, :: self.stride]
        return functional.relu(self.second(self.first(features)) + self.shortcut(passed))


class ResidualEncoder(nn.Module):
    """A small ResNet: (N, channels, H, W) to the features of four levels, the finest first.

    Level k has `width * 2**k` channels and 1 / 2**k of the size; three halvings leave 8 x 16 cells
    of a 64 x 128 image, where ResNet's five would leave 2 x 4.

    Source: He et al., "Deep Residual Learning for Image Recognition", 2016 (basic blocks, two a
        level; the first level is two plain convolutions at full size).
    """

    def __init__(self, channels: int, width: int) -> None:
        super().__init__()
        self.widths = [width * 2**level for level in range(4)]
        self.stem = ConvBlock(channels, width)
        self.levels = nn.ModuleList(
            nn.Sequential(Residual(fine, coarse, stride=2), Residual(coarse, coarse))
            for fine, coarse in zip(self.widths, self.widths[1:], strict=False)
        )

    def forward(self, images: Tensor) -> list[Tensor]:
        """Return the features of each level."""
        features = [self.stem(images)]
        for level in self.levels:
            features.append(level(features[-1]))
        return features
