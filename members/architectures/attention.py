"""Blocks that weigh features: squeeze-and-excitation by channel, the attention gate by place."""

import torch
from torch import Tensor, nn

REDUCTION = 16
"""Channels a squeezed one, as in the paper."""
LEAST = 4  # narrower than this, a dead ReLU would leave every channel the same weight for good


class SqueezeExcitation(nn.Module):
    """Weigh each channel by what the whole picture holds; (N, width, H, W) to the same.

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
