"""The encoders that the U-Nets share: blocks of convolutions with a pooling after each."""

from collections.abc import Callable, Sequence
from typing import Literal

from torch import Tensor, nn
from torch.nn import functional

EncoderName = Literal["plain", "vgg16"]

VGG16_CONVOLUTIONS = (2, 2, 3, 3, 3)  # Simonyan and Zisserman 2015, table 1, column D
VGG16_WIDENING = (1, 2, 4, 8, 8)

Block = Callable[..., nn.Module]
"""Makes a block: (channels, width, *, convolutions, se), the last two if other than usual."""


def layout(
    encoder: EncoderName, *, width: int, depth: int, convolutions: int
) -> tuple[list[int], list[int]]:
    """Return channels and convolutions of each level, the bottleneck's as the last.

    Levels below VGG-16's fifth are like the fifth.
    """
    levels = range(depth + 1)
    if encoder == "plain":
        return [width * 2**level for level in levels], [convolutions for _ in levels]
    last = len(VGG16_CONVOLUTIONS) - 1
    return (
        [width * VGG16_WIDENING[min(level, last)] for level in levels],
        [VGG16_CONVOLUTIONS[min(level, last)] for level in levels],
    )


class Encoder(nn.ModuleList):
    """Blocks with a pooling after each: (N, channels, H, W) to one list of features, finest first.

    Level k of the list has `widths[k]` channels and 1 / 2**k of the size; its last entry is the
    pooled features of the last block.

    Args:
        channels: of the pictures.
        widths: channels of each block.
        convolutions: of each block.
        block: makes them.
    """

    def __init__(
        self, channels: int, widths: Sequence[int], convolutions: Sequence[int], block: Block
    ) -> None:
        sources = [channels, *widths]
        super().__init__(
            block(source, width, convolutions=count)
            for source, width, count in zip(sources[:-1], widths, convolutions, strict=True)
        )

    def forward(self, features: Tensor) -> list[Tensor]:
        """Return what each block finds, then the last of it pooled."""
        found = []
        for block in self:
            found.append(block(features))
            features = functional.max_pool2d(found[-1], 2)
        return [*found, features]
