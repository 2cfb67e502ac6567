"""SegFormer: a hierarchical transformer encoder and an all-MLP decoder."""

from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional

from members.architectures.blocks import (
    DepthwiseConv,
    Dropout,
    PointwiseConv,
    Width,
    he_initialise,
    resized,
)
from members.architectures.transformer import Attention, as_map, as_tokens

WIDTHS = (1, 2, 4, 6)  # channels of each level, times `width`; also its heads
REDUCTIONS = (8, 4, 2, 1)  # of the rows and columns of the keys
EXPANSION = 4
INITIAL_DEVIATION = 0.02  # of the weights of linear layers


class PatchEmbedding(nn.Module):
    """Overlapping patches at every second pixel, as normalised features."""

    def __init__(self, channels: int, width: int, *, kernel: int) -> None:
        super().__init__()
        self.patches = nn.Conv2d(channels, width, kernel, stride=2, padding=kernel // 2)
        self.normalise = nn.LayerNorm(width)

    def forward(self, features: Tensor) -> Tensor:
        """(N, channels, H, W) to (N, width, H / 2, W / 2)."""
        patches = self.patches(features)
        return as_map(self.normalise(as_tokens(patches)), patches)


class ReducedAttention(nn.Module):
    """Self-attention in which each pixel attends to patches of `reduction` x `reduction` pixels.

    (N, width, H, W) to the same; the cost falls by the square of the reduction.
    """

    def __init__(self, width: int, *, heads: int, reduction: int) -> None:
        super().__init__()
        self.reduce: nn.Module | None = None
        if reduction > 1:
            self.reduce = nn.Conv2d(width, width, reduction, stride=reduction)
            self.normalise = nn.LayerNorm(width)
        self.attention = Attention(width, heads=heads)

    def forward(self, features: Tensor) -> Tensor:
        """Return the attended features."""
        others = None
        if self.reduce is not None:
            others = self.normalise(as_tokens(self.reduce(features)))
        return as_map(self.attention(as_tokens(features), others), features)


class MixFFN(nn.Module):
    """An MLP per pixel with a depthwise 3 x 3 convolution inside, (N, width, H, W) to the same.

    The zero padding of the convolution gives position information, so there is no encoding of it.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        wide = EXPANSION * width
        self.widen = nn.Linear(width, wide)
        self.mix = DepthwiseConv(wide, 3)
        self.narrow = nn.Linear(wide, width)

    def forward(self, features: Tensor) -> Tensor:
        """Return the mixed features."""
        mixed = self.mix(as_map(self.widen(as_tokens(features)), features))
        return as_map(self.narrow(functional.gelu(as_tokens(mixed))), features)


class MixLayer(nn.Module):
    """Attention, then the Mix-FFN, each with layer normalisation before and a shortcut."""

    def __init__(self, width: int, *, heads: int, reduction: int, dropout: float) -> None:
        super().__init__()
        self.before_attention = nn.LayerNorm(width)
        self.attention = ReducedAttention(width, heads=heads, reduction=reduction)
        self.before_ffn = nn.LayerNorm(width)
        self.ffn = MixFFN(width)
        self.dropout = nn.Dropout(dropout)

    def forward(self, features: Tensor) -> Tensor:
        """(N, width, H, W) to the same."""
        normal = as_map(self.before_attention(as_tokens(features)), features)
        features = features + self.dropout(self.attention(normal))
        normal = as_map(self.before_ffn(as_tokens(features)), features)
        result: Tensor = features + self.dropout(self.ffn(normal))
        return result


class SegFormer(nn.Module):
    """Images (N, channels, H, W) to logits (N, classes, H, W); H and W multiples of 16."""

    stride = 16

    def __init__(
        self, channels: int, classes: int, *, width: int, layers: int, dropout: float
    ) -> None:
        super().__init__()
        widths = [times * width for times in WIDTHS]
        self.levels = nn.ModuleList()
        for level, (times, reduction) in enumerate(zip(WIDTHS, REDUCTIONS, strict=True)):
            source, kernel = (widths[level - 1], 3) if level else (channels, 7)
            self.levels.append(
                nn.Sequential(
                    PatchEmbedding(source, widths[level], kernel=kernel),
                    *(
                        MixLayer(widths[level], heads=times, reduction=reduction, dropout=dropout)
                        for _ in range(layers)
                    ),
                )
            )
        self.normalise = nn.ModuleList(nn.LayerNorm(level) for level in widths)
        self.unify = nn.ModuleList(nn.Linear(level, widths[-1]) for level in widths)
        self.merge = PointwiseConv(len(widths) * widths[-1], widths[-1])
        self.dropout = nn.Dropout2d(dropout)
        self.head = nn.Conv2d(widths[-1], classes, 1)
        he_initialise(self)
        for layer in self.modules():
            if isinstance(layer, nn.Linear):
                nn.init.trunc_normal_(layer.weight, std=INITIAL_DEVIATION)
                nn.init.zeros_(layer.bias)

    def forward(self, images: Tensor) -> Tensor:
        """Return the logits of each pixel."""
        features, levels = images, []
        for level, normalise, unify in zip(self.levels, self.normalise, self.unify, strict=True):
            features = level(features)
            levels.append(as_map(unify(normalise(as_tokens(features))), features))
        merged = self.merge(torch.cat([resized(level, levels[0]) for level in levels], dim=1))
        return resized(self.head(self.dropout(merged)), images)


def segformer(
    channels: int,
    classes: int,
    *,
    width: Width = 24,
    layers: Annotated[int, Field(ge=1, le=8)] = 2,
    dropout: Dropout = 0.1,
) -> SegFormer:
    """Build a small SegFormer, trained from scratch; 1.4 million parameters.

    It is smaller than the paper's B0, and its first patches are 2 pixels apart instead of 4, so
    that the levels of a 64 x 128 image have 32 x 64 to 4 x 8 pixels.

    Args:
        width: channels of the first level and of each head; the levels have 1, 2, 4, 6 heads.
        layers: per level.
        dropout: fraction dropped of what a layer adds, and of the decoder's channels, in training.

    References:
        Xie et al., "SegFormer: Simple and Efficient Design for Semantic Segmentation with
        Transformers", 2021.
    """
    return SegFormer(channels, classes, width=width, layers=layers, dropout=dropout)
