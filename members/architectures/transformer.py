"""Transformer layers over the pixels of a feature map of any size."""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

MAX_WAVELENGTH = 10_000.0  # divided by 2 pi, as in the paper


class Attention(nn.Module):
    """Multi-head attention: tokens (N, tokens, width) to the same.

    Args:
        width: of a token.
        heads: a divisor of the width.

    References:
        Vaswani et al., "Attention Is All You Need", 2017.
    """

    def __init__(self, width: int, *, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.query = nn.Linear(width, width)
        self.key_value = nn.Linear(width, 2 * width)
        self.project = nn.Linear(width, width)

    def forward(self, tokens: Tensor, others: Tensor | None = None) -> Tensor:
        """Attend to the other tokens, by default to the tokens themselves."""
        query = self._split(self.query(tokens))
        key, value = self.key_value(tokens if others is None else others).chunk(2, dim=-1)
        heads = functional.scaled_dot_product_attention(query, self._split(key), self._split(value))
        result: Tensor = self.project(heads.transpose(1, 2).flatten(2))
        return result

    def _split(self, tokens: Tensor) -> Tensor:
        return tokens.reshape(*tokens.shape[:2], self.heads, -1).transpose(1, 2)


class TransformerLayer(nn.Module):
    """Attention, then an MLP per token, each with layer normalisation before and a shortcut."""

    def __init__(self, width: int, *, heads: int, expansion: int = 4, dropout: float = 0.0) -> None:
        super().__init__()
        self.before_attention = nn.LayerNorm(width)
        self.attention = Attention(width, heads=heads)
        self.before_mlp = nn.LayerNorm(width)
        self.mlp = nn.Sequential(
            nn.Linear(width, expansion * width), nn.GELU(), nn.Linear(expansion * width, width)
        )
        self.dropout = nn.Dropout(dropout)

    def forward(self, tokens: Tensor) -> Tensor:
        """Tokens (N, tokens, width) to the same."""
        tokens = tokens + self.dropout(self.attention(self.before_attention(tokens)))
        result: Tensor = tokens + self.dropout(self.mlp(self.before_mlp(tokens)))
        return result


class TransformerBlock(nn.Module):
    """Transformer layers over all pixels of a map, (N, width, H, W) to the same.

    The position encodings are added sine waves, which need no training and fit any size.

    Args:
        width: channels.
        layers: number of layers.
        heads: maximum number; fewer if it does not divide the width.
        dropout: fraction dropped of what a layer adds, in training.

    References:
        Dosovitskiy et al., "An Image is Worth 16x16 Words", 2021 (normalisation before each layer).
    """

    def __init__(
        self, width: int, *, layers: int = 2, heads: int = 4, dropout: float = 0.0
    ) -> None:
        super().__init__()
        self.layers = nn.ModuleList(
            TransformerLayer(width, heads=math.gcd(width, heads), dropout=dropout)
            for _ in range(layers)
        )
        self.normalise = nn.LayerNorm(width)

    def forward(self, features: Tensor) -> Tensor:
        """Let each pixel attend to all others."""
        tokens = as_tokens(features + positions(features))
        for layer in self.layers:
            tokens = layer(tokens)
        return as_map(self.normalise(tokens), features)


def as_tokens(features: Tensor) -> Tensor:
    """(N, C, H, W) to (N, H * W, C)."""
    return features.flatten(2).transpose(1, 2)


def as_map(tokens: Tensor, like: Tensor) -> Tensor:
    """(N, H * W, C) to (N, C, H, W) with the rows and columns of `like`."""
    return tokens.transpose(1, 2).reshape(len(like), -1, *like.shape[2:])


def positions(features: Tensor) -> Tensor:
    """Return position encodings (width, H, W): waves along the rows, then along the columns.

    References:
        Carion et al., "End-to-End Object Detection with Transformers", 2020: half the channels for
        each axis, sine and cosine of wavelengths in geometric progression.
    """
    width, rows, cols = features.shape[1:]
    along_rows = _waves(rows, -(-width // 2), features.device)[:, :, None].expand(-1, -1, cols)
    along_cols = _waves(cols, width // 2, features.device)[:, None, :].expand(-1, rows, -1)
    return torch.cat([along_rows, along_cols]).to(features.dtype)


def _waves(length: int, width: int, device: torch.device) -> Tensor:
    pairs = torch.arange(-(-width // 2), device=device)
    frequencies = MAX_WAVELENGTH ** (-2 * pairs / max(1, width))
    phases = frequencies[:, None] * torch.arange(length, device=device)
    return torch.stack([phases.sin(), phases.cos()], dim=1).flatten(0, 1)[:width]
