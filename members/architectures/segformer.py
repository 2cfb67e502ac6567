"""SegFormer: a hierarchical transformer encoder and a decoder of nothing but perceptrons."""

from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional

from members.architectures.blocks import PointBlock, he_initialise, resized
from members.architectures.transformer import Attention

WIDTHS = (1, 2, 4, 6)  # channels of each level, times `width`; also its heads
REDUCTIONS = (8, 4, 2, 1)  # of the keys' rows and columns
EXPANSION = 4
DEVIATION = 0.02  # of the linear layers' first weights


class PatchEmbedding(nn.Module):
    """Overlapping patches 3 x 3 (7 x 7 at first) at every second place, as normalised features."""

    def __init__(self, channels: int, width: int, *, kernel: int) -> None:
        super().__init__()
        self.patches = nn.Conv2d(channels, width, kernel, stride=2, padding=kernel // 2)
        self.normalise = nn.LayerNorm(width)

    def forward(self, features: Tensor) -> Tensor:
        """(N, channels, H, W) to (N, width, H / 2, W / 2)."""
        patches = self.patches(features)
        return as_map(self.normalise(as_tokens(patches)), patches)


class ReducedAttention(nn.Module):
    """Self-attention in which each place looks at patches of `reduction` x `reduction` places.

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
        """Let each place look at the others."""
        others = None
        if self.reduce is not None:
            others = self.normalise(as_tokens(self.reduce(features)))
        return as_map(self.attention(as_tokens(features), others), features)


class MixPerceptron(nn.Module):
    """A perceptron on each place with a depthwise convolution 3 x 3 inside.

    Its zero padding tells the places apart, so that no positions need be added to the features.
    (N, width, H, W) to the same.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        wide = EXPANSION * width
        self.widen = nn.Linear(width, wide)
        self.mix = nn.Conv2d(wide, wide, 3, padding=1, groups=wide)
        self.narrow = nn.Linear(wide, width)

    def forward(self, features: Tensor) -> Tensor:
        """Mix the channels, and each with its neighbours."""
        mixed = self.mix(as_map(self.widen(as_tokens(features)), features))
        return as_map(self.narrow(functional.gelu(as_tokens(mixed))), features)


class MixLayer(nn.Module):
    """Attention, then the mixing perceptron, each on normalised features and added to them."""

    def __init__(self, width: int, *, heads: int, reduction: int, dropout: float) -> None:
        super().__init__()
        self.before_attention = nn.LayerNorm(width)
        self.attention = ReducedAttention(width, heads=heads, reduction=reduction)
        self.before_perceptron = nn.LayerNorm(width)
        self.perceptron = MixPerceptron(width)
        self.dropout = nn.Dropout(dropout)

    def forward(self, features: Tensor) -> Tensor:
        """(N, width, H, W) to the same."""
        normal = as_map(self.before_attention(as_tokens(features)), features)
        features = features + self.dropout(self.attention(normal))
        normal = as_map(self.before_perceptron(as_tokens(features)), features)
        result: Tensor = features + self.dropout(self.perceptron(normal))
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
        self.merge = PointBlock(len(widths) * widths[-1], widths[-1])
        self.dropout = nn.Dropout2d(dropout)
        self.head = nn.Conv2d(widths[-1], classes, 1)
        he_initialise(self)
        for layer in self.modules():
            if isinstance(layer, nn.Linear):
                nn.init.trunc_normal_(layer.weight, std=DEVIATION)
                nn.init.zeros_(layer.bias)

    def forward(self, images: Tensor) -> Tensor:
        """Return the logits of each pixel."""
        features, levels = images, []
        for level, normalise, unify in zip(self.levels, self.normalise, self.unify, strict=True):
            features = level(features)
            levels.append(as_map(unify(normalise(as_tokens(features))), features))
        merged = self.merge(torch.cat([resized(level, levels[0]) for level in levels], dim=1))
        return resized(self.head(self.dropout(merged)), images)


def as_tokens(features: Tensor) -> Tensor:
    """(N, C, H, W) to (N, H * W, C)."""
    return features.flatten(2).transpose(1, 2)


def as_map(tokens: Tensor, like: Tensor) -> Tensor:
    """(N, H * W, C) to (N, C, H, W), rows and columns as many as `like` has."""
    return tokens.transpose(1, 2).reshape(len(like), -1, *like.shape[2:])


def segformer(
    channels: int,
    classes: int,
    *,
    width: Annotated[int, Field(ge=1)] = 24,
    layers: Annotated[int, Field(ge=1, le=8)] = 2,
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.1,
) -> SegFormer:
    """Build a small SegFormer, trained from scratch; 1.4 million parameters.

    Images (N, channels, H, W) to logits (N, classes, H, W). Smaller than the paper's least, B0,
    and its first patches stand 2 pixels apart instead of 4, so that the levels of a 64 x 128
    image are 32 x 64 to 4 x 8 places.

    Args:
        channels: of the images.
        classes: how many logits a pixel.
        width: channels of the first level and of each head; the levels have 1, 2, 4, 6 heads.
        layers: at each level.
        dropout: share dropped of what a layer adds, and of the decoder's channels, in training.

    Source: Xie et al., "SegFormer: Simple and Efficient Design for Semantic Segmentation with
        Transformers", 2021.
    """
    return SegFormer(channels, classes, width=width, layers=layers, dropout=dropout)
