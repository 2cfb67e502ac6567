"""SegNet: a decoder that puts values back where max pooling took them from."""

from typing import Annotated

from pydantic import Field
from torch import Tensor, nn

from members.architectures.blocks import ConvBlock, he_initialise

WIDEST = 8  # times the first level's channels, as VGG-16 stops at 512
SHALLOW_LEVELS = 2  # have two convolutions, the deeper ones three


class Pool(nn.Module):
    """Halve by maxima, and say where each stood: (N, C, H, W) to values and indices."""

    def __init__(self) -> None:
        super().__init__()
        self.pool = nn.MaxPool2d(2, return_indices=True)

    def forward(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """Return the maxima and their indices into the flat rows and columns."""
        values, indices = self.pool(features)
        return values, indices


class Unpool(nn.Module):
    """Put each value where its index says, zeros elsewhere: sparse, but edges keep their place."""

    def __init__(self) -> None:
        super().__init__()
        self.unpool = nn.MaxUnpool2d(2)

    def forward(self, values: Tensor, indices: Tensor) -> Tensor:
        """Return features of twice the size."""
        features: Tensor = self.unpool(values, indices)
        return features


class SegNet(nn.Module):
    """Images (N, channels, H, W) to logits (N, classes, H, W); H and W multiples of `stride`."""

    def __init__(
        self, channels: int, classes: int, *, width: int, depth: int, dropout: float
    ) -> None:
        super().__init__()
        self.stride = 2**depth
        widths = [width * min(2**level, WIDEST) for level in range(depth)]
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
        self.pool, self.unpool = Pool(), Unpool()
        self.head = nn.Conv2d(width, classes, 1)
        he_initialise(self)

    def forward(self, images: Tensor) -> Tensor:
        """Return the logits of each pixel."""
        features, places = images, []
        for block in self.encoder:
            features, indices = self.pool(block(features))
            places.append(indices)
        for block in self.decoder:
            features = block(self.unpool(features, places.pop()))
        logits: Tensor = self.head(features)
        return logits


def segnet(
    channels: int,
    classes: int,
    *,
    width: Annotated[int, Field(ge=1)] = 16,
    depth: Annotated[int, Field(ge=1, le=7)] = 4,
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0,
) -> SegNet:
    """Build a SegNet; 0.96 million parameters.

    Images (N, channels, H, W) to logits (N, classes, H, W). The encoder has VGG-16's layout, the
    decoder mirrors it; nothing but the pooling indices crosses from one to the other. The paper has
    64 channels at first and five halvings, which would leave 2 x 4 cells of a 64 x 128 image.

    Args:
        channels: of the images.
        classes: how many logits a pixel.
        width: channels of the first level; the next have twice as many, up to 8 times.
        depth: how often the image is halved.
        dropout: share of the channels dropped after each block, in training.

    Source: Badrinarayanan et al., "SegNet: A Deep Convolutional Encoder-Decoder Architecture for
        Image Segmentation", 2017.
    """
    return SegNet(channels, classes, width=width, depth=depth, dropout=dropout)
