"""SegNet: a decoder that unpools by the indices of the encoder's max pooling."""

from typing import Annotated

from pydantic import Field
from torch import Tensor, nn

from members.architectures.blocks import ConvBlock, Dropout, Width, he_initialise

MAX_WIDENING = 8  # times the first level's channels, as VGG-16 stops at 512
SHALLOW_LEVELS = 2  # have two convolutions, the deeper ones three


class SegNet(nn.Module):
    """Images (N, channels, H, W) to logits (N, classes, H, W); H and W multiples of `stride`."""

    def __init__(
        self, channels: int, classes: int, *, width: int, depth: int, dropout: float
    ) -> None:
        super().__init__()
        self.stride = 2**depth
        widths = [width * min(2**level, MAX_WIDENING) for level in range(depth)]
        counts = [2 if level < SHALLOW_LEVELS else 3 for level in range(depth)]
        self.encoder = nn.ModuleList(
            ConvBlock(source, target, convolutions=count, dropout=dropout)
            for source, target, count in zip([channels, *widths], widths, counts, strict=False)
        )
        self.decoder = nn.ModuleList(
            nn.Sequential(
                ConvBlock(widths[level], widths[level], convolutions=counts[level] - 1),
                ConvBlock(
                    widths[level], widths[max(0, level - 1)], convolutions=1, dropout=dropout
                ),
            )
            for level in reversed(range(depth))
        )
        self.pool = nn.MaxPool2d(2, return_indices=True)
        self.unpool = nn.MaxUnpool2d(2)
        self.head = nn.Conv2d(width, classes, 1)
        he_initialise(self)

    def forward(self, images: Tensor) -> Tensor:
        """Return the logits of each pixel."""
        features, pooled_indices = images, []
        for block in self.encoder:
            features, indices = self.pool(block(features))
            pooled_indices.append(indices)
        for block in self.decoder:
            features = block(self.unpool(features, pooled_indices.pop()))
        logits: Tensor = self.head(features)
        return logits


def segnet(
    channels: int,
    classes: int,
    *,
    width: Width = 16,
    depth: Annotated[int, Field(ge=1, le=7)] = 4,
    dropout: Dropout = 0.0,
) -> SegNet:
    """Build a SegNet; 0.96 million parameters.

    The encoder has the layout of VGG-16, the decoder mirrors it; only pooling indices are passed
    from one to the other. The paper has 64 channels at first and five poolings, which would leave
    2 x 4 cells of a 64 x 128 image.

    Args:
        width: channels of the first level; the next have twice as many, up to 8 times.
        depth: number of poolings.
        dropout: fraction of the channels dropped after each block, in training.

    References:
        Badrinarayanan et al., "SegNet: A Deep Convolutional Encoder-Decoder Architecture for Image
        Segmentation", 2017.
    """
    return SegNet(channels, classes, width=width, depth=depth, dropout=dropout)
