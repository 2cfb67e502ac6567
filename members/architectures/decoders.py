"""The decoder that the U-Nets share: up, join the skip, convolve."""

from collections.abc import Sequence
from typing import Literal

from torch import Tensor, nn

from members.architectures.encoders import Block
from members.architectures.skips import Skip, SkipName

UpName = Literal["transpose", "bilinear"]


def upsampling(kind: UpName, channels: int, width: int) -> nn.Module:
    """Build what doubles the size, (N, channels, H, W) to (N, width, 2 H, 2 W)."""
    if kind == "transpose":
        return nn.ConvTranspose2d(channels, width, 2, stride=2)
    # The 1 x 1 convolution and the interpolation commute; this way round it has a quarter to do.
    return nn.Sequential(
        nn.Conv2d(channels, width, 1), nn.Upsample(scale_factor=2.0, mode="bilinear")
    )


class Decoder(nn.Module):
    """From the coarsest features to the finest, joining those of the encoder on the way.

    Args:
        widths: channels of each level, finest first, the bottleneck's last.
        block: makes a block of convolutions.
        up: how to double the size.
        skip: how to join.
        skips: channels of what is joined at each level; those of the level if not given.
    """

    def __init__(
        self,
        widths: Sequence[int],
        block: Block,
        *,
        up: UpName = "transpose",
        skip: SkipName = "concat",
        skips: Sequence[int] | None = None,
    ) -> None:
        super().__init__()
        levels = range(len(widths) - 2, -1, -1)
        joined = skips or widths
        self.ups = nn.ModuleList(upsampling(up, widths[k + 1], widths[k]) for k in levels)
        self.skips = nn.ModuleList(Skip(skip, widths[k], joined[k]) for k in levels)
        self.blocks = nn.ModuleList(
            block(join.merged, widths[k]) for k, join in zip(levels, self.skips, strict=True)
        )

    def forward(self, features: Tensor, skips: Sequence[Tensor]) -> Tensor:
        """Return the finest features; the skips come finest first."""
        steps = zip(self.ups, self.skips, self.blocks, reversed(skips), strict=True)
        for enlarge, join, block, skip in steps:
            features = block(join(skip, enlarge(features)))
        return features
