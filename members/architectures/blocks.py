"""Blocks that several networks share: convolutions, residual blocks, gates, pyramid pooling."""

from collections.abc import Callable, Sequence
from functools import partial
from itertools import pairwise
from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional

MIN_SQUEEZED = 4  # below, a dead ReLU would give all channels the same weight for good

MAX_WIDTH = 1024
Width = Annotated[int, Field(ge=1, le=MAX_WIDTH)]
Dropout = Annotated[float, Field(ge=0, lt=1)]
Activation = Literal["relu", "leaky_relu", "elu", "gelu"]

ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {
    "relu": partial(nn.ReLU, inplace=True),
    "leaky_relu": partial(nn.LeakyReLU, inplace=True),
    "elu": partial(nn.ELU, inplace=True),
    "gelu": nn.GELU,
}


class BatchNorm(nn.BatchNorm2d):
    """Batch normalisation that takes a single value per channel too, (1, width, 1, 1).

    Such a value has no variance, and torch refuses it; the running statistics normalise it, as in
    evaluation, and stay as they are.
    """

    def forward(self, features: Tensor) -> Tensor:
        """Normalise (N, width, H, W)."""
        if self.training and features.numel() == self.num_features:
            mean, variance = self.running_mean, self.running_var
            return functional.batch_norm(
                features, mean, variance, self.weight, self.bias, eps=self.eps
            )
        normalised: Tensor = super().forward(features)
        return normalised


class DepthwiseConv(nn.Conv2d):
    """A convolution of each channel by itself, in float32 on a GPU.

    There, kernels for bfloat16 want a multiple of 8 channels, which parts of a width rarely are.

    Args:
        channels: of input and output.
        kernel_size: odd.
        stride: in pixels.
        bias: whether to add one per channel.
    """

    def __init__(
        self, channels: int, kernel_size: int, *, stride: int = 1, bias: bool = True
    ) -> None:
        padding = kernel_size // 2
        super().__init__(
            channels, channels, kernel_size, stride, padding, groups=channels, bias=bias
        )

    def forward(self, features: Tensor) -> Tensor:
        """Return the features of each channel."""
        if not features.is_cuda:
            return super().forward(features)
        with torch.autocast("cuda", enabled=False):
            return super().forward(features.float())


class ConvBlock(nn.Sequential):
    """Convolutions, each with batch normalisation and activation; keeps the size.

    Args:
        channels: of the input.
        width: channels of the output.
        convolutions: number of them.
        dropout: fraction of the channels dropped at the end, in training.
        dilation: in pixels.
        kernel_size: odd.
        activation: after each normalisation.
        se: whether to apply squeeze-and-excitation before the dropout.
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
                BatchNorm(width),
                ACTIVATIONS[activation](),
            ]
        if se:
            layers.append(SqueezeExcitation(width))
        if dropout:
            layers.append(nn.Dropout2d(dropout))
        super().__init__(*layers)


class PointwiseConv(ConvBlock):
    """A 1 x 1 convolution with batch normalisation and ReLU."""

    def __init__(self, channels: int, width: int) -> None:
        super().__init__(channels, width, convolutions=1, kernel_size=1)


class SqueezeExcitation(nn.Module):
    """Multiply each channel by a weight computed from the mean of all channels over the image.

    (N, width, H, W) to the same.

    References:
        Hu et al., "Squeeze-and-Excitation Networks", 2018.
    """

    def __init__(self, width: int, *, reduction: int = 16) -> None:
        super().__init__()
        squeezed = max(MIN_SQUEEZED, width // reduction)
        self.squeeze = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Conv2d(width, squeezed, 1))
        self.excite = nn.Sequential(
            nn.ReLU(inplace=True), nn.Conv2d(squeezed, width, 1), nn.Sigmoid()
        )

    def forward(self, features: Tensor) -> Tensor:
        """Return the weighted features."""
        weights: Tensor = self.excite(self.squeeze(features))
        return features * weights


class AttentionGate(nn.Module):
    """Multiply each pixel of a skip by one weight, sigmoid(psi(relu(W skip + V signal))).

    The paper's signal comes from the level below and its weights are resampled; here the decoder
    has upsampled it already. Skip and signal (N, width, H, W) to the weighted skip, the same.

    References:
        Oktay et al., "Attention U-Net: Learning Where to Look for the Pancreas", 2018.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        hidden = max(MIN_SQUEEZED, width // 2)
        self.of_skip = nn.Conv2d(width, hidden, 1, bias=False)
        self.of_signal = nn.Conv2d(width, hidden, 1)
        self.gate = nn.Sequential(nn.ReLU(inplace=True), nn.Conv2d(hidden, 1, 1), nn.Sigmoid())

    def forward(self, skip: Tensor, signal: Tensor) -> Tensor:
        """Return the weighted skip."""
        weights: Tensor = self.gate(self.of_skip(skip) + self.of_signal(signal))
        return skip * weights


class FeatureGate(nn.Module):
    """Multiply each value of a skip by a weight of its own, sigmoid(W [skip, features]).

    Skip and features (N, width, H, W) to the weighted skip, the same.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.gate = nn.Sequential(nn.Conv2d(2 * width, width, 1), nn.Sigmoid())

    def forward(self, skip: Tensor, features: Tensor) -> Tensor:
        """Return the weighted skip."""
        weights: Tensor = self.gate(torch.cat([skip, features], dim=1))
        return skip * weights


def pooled_branch(
    channels: int, width: int, size: int | tuple[int | None, int | None] = 1
) -> nn.Sequential:
    """Build a branch of means over parts of the image, reduced to `width` channels.

    It has no normalisation: a batch of one image may have a single value per channel here, and so
    no variance.
    """
    return nn.Sequential(
        nn.AdaptiveAvgPool2d(size), nn.Conv2d(channels, width, 1), nn.ReLU(inplace=True)
    )


class ASPP(nn.Module):
    """Atrous spatial pyramid pooling: (N, channels, H, W) to (N, width, H, W).

    A 1 x 1 branch, a dilated 3 x 3 branch per rate, and the mean over the image, concatenated and
    projected.

    Args:
        channels: of the input.
        width: channels of the output.
        rates: dilations in pixels.
        branch_width: channels of each branch; by default `width`.
        pooled: whether there is a branch with the mean over the image.

    References:
        Chen et al., "Rethinking Atrous Convolution for Semantic Image Segmentation", 2017.
    """

    def __init__(
        self,
        channels: int,
        width: int,
        *,
        rates: Sequence[int] = (6, 12, 18),
        branch_width: int | None = None,
        pooled: bool = True,
    ) -> None:
        super().__init__()
        branch = branch_width or width
        self.point = PointwiseConv(channels, branch)
        self.dilated = nn.ModuleList(
            ConvBlock(channels, branch, convolutions=1, dilation=rate) for rate in rates
        )
        self.pooled = pooled_branch(channels, branch) if pooled else None
        self.project = PointwiseConv((1 + len(rates) + pooled) * branch, width)

    def forward(self, features: Tensor) -> Tensor:
        """Apply all branches."""
        size = features.shape[2:]
        pooled = [] if self.pooled is None else [self.pooled(features).expand(-1, -1, *size)]
        branches = [self.point(features), *(branch(features) for branch in self.dilated), *pooled]
        result: Tensor = self.project(torch.cat(branches, dim=1))
        return result


class Residual(nn.Module):
    """Two convolutions with a shortcut, as in ResNet's basic block."""

    def __init__(self, channels: int, width: int, *, stride: int = 1, dilation: int = 1) -> None:
        super().__init__()
        self.first = nn.Sequential(
            nn.Conv2d(
                channels, width, 3, stride=stride, padding=dilation, dilation=dilation, bias=False
            ),
            BatchNorm(width),
            nn.ReLU(inplace=True),
        )
        self.second = nn.Sequential(
            nn.Conv2d(width, width, 3, padding=dilation, dilation=dilation, bias=False),
            BatchNorm(width),
        )
        self.stride = stride
        self.shortcut: nn.Module = nn.Identity()
        if stride > 1 or channels != width:
            self.shortcut = nn.Sequential(
                nn.Conv2d(channels, width, 1, bias=False), BatchNorm(width)
            )

    def forward(self, features: Tensor) -> Tensor:
        """Add the residual to the features."""
        # A 1 x 1 convolution of every second pixel equals one with stride 2, whose bfloat16
        # gradient corrupts memory in torch 2.13 on a CPU (8 channels, channels last).
        subsampled = features[:, :, :: self.stride, :: self.stride]
        return functional.relu(self.second(self.first(features)) + self.shortcut(subsampled))


class ResidualEncoder(nn.Module):
    """A small ResNet: (N, channels, H, W) to the features of four levels, finest first.

    Level k has `width * 2**k` channels and 1 / 2**k of the size; three halvings leave 8 x 16 cells
    of a 64 x 128 image, where ResNet's five would leave 2 x 4.

    References:
        He et al., "Deep Residual Learning for Image Recognition", 2016 (two basic blocks per level;
        the first level is two plain convolutions at full size).
    """

    def __init__(self, channels: int, width: int) -> None:
        super().__init__()
        self.widths = [width * 2**level for level in range(4)]
        self.stem = ConvBlock(channels, width)
        self.levels = nn.ModuleList(
            nn.Sequential(Residual(fine, coarse, stride=2), Residual(coarse, coarse))
            for fine, coarse in pairwise(self.widths)
        )

    def forward(self, images: Tensor) -> list[Tensor]:
        """Return the features of each level."""
        features = [self.stem(images)]
        for level in self.levels:
            features.append(level(features[-1]))
        return features


def resized(features: Tensor, like: Tensor) -> Tensor:
    """Return the features at the size of `like`, interpolated bilinearly."""
    return functional.interpolate(
        features, size=like.shape[2:], mode="bilinear", align_corners=False
    )


def he_initialise(network: nn.Module) -> None:
    """Sample convolution weights as for ReLU networks; biases are 0.

    Nothing is sampled on the meta device: a network there has sizes alone.

    References:
        He et al., "Delving Deep into Rectifiers", 2015.
    """
    for layer in network.modules():
        if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d) and not layer.weight.is_meta:
            nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)
