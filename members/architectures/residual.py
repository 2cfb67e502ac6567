"""Residual blocks, and the encoder built from them that several networks share."""

from torch import Tensor, nn
from torch.nn import functional

from members.architectures.blocks import ConvBlock


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
    of a 64 x 128 picture, where ResNet's five would leave 2 x 4.

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

    def forward(self, pictures: Tensor) -> list[Tensor]:
        """Return the features of each level."""
        features = [self.stem(pictures)]
        for level in self.levels:
            features.append(level(features[-1]))
        return features
