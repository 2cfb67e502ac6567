"""Strip pyramid pooling: means over bands of rows and of columns, next to the features."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from members.architectures.blocks import ConvBlock, resized


class StripPyramidPooling(nn.Module):
    """SPPM: each place sees the bands it lies in; (N, channels, H, W) to (N, width, H, W).

    For each number of bands, the means over so many bands of rows (each column by itself) and of
    columns (each row by itself), reduced by a 1 x 1 convolution and brought back to full size; all
    of them next to the features, projected by a 3 x 3 convolution. A band follows the horizon or a
    ridge where a square part of pyramid pooling would mix ground and sky.

    Args:
        channels: of the input.
        width: channels of the output.
        bands: how many, one entry a pair of branches.

    Source: Li et al., "MarsSeg: Mars Surface Semantic Segmentation with Multi-level Extractor and
        Connector", 2024, for the name and purpose; the strips are those of Hou et al., "Strip
        Pooling", 2020, their pyramid is ours.
    """

    def __init__(self, channels: int, width: int, *, bands: Sequence[int] = (1, 2, 4)) -> None:
        super().__init__()
        reduced = max(1, channels // (2 * len(bands)))
        shapes = [shape for count in bands for shape in ((count, None), (None, count))]
        # No normalisation here: a batch of one small picture may have one value a channel.
        self.branches = nn.ModuleList(
            nn.Sequential(
                nn.AdaptiveAvgPool2d(shape),
                nn.Conv2d(channels, reduced, 1),
                nn.ReLU(inplace=True),
            )
            for shape in shapes
        )
        self.project = ConvBlock(channels + len(shapes) * reduced, width, convolutions=1)

    def forward(self, features: Tensor) -> Tensor:
        """Look at the features next to the means of their bands."""
        means = [resized(branch(features), features) for branch in self.branches]
        result: Tensor = self.project(torch.cat([features, *means], dim=1))
        return result
