"""Transformer blocks over the places of a feature map of any size."""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

LONGEST = 10_000.0  # wavelength of the slowest wave, over 2 pi, as in the paper


class Attention(nn.Module):
    """Multi-head attention: tokens (N, tokens, width) look at others and stay tokens.

    Args:
        width: of a token.
        heads: divide the width.

    Source: Vaswani et al., "Attention Is All You Need", 2017.
    """

    def __init__(self, width: int, *, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.query = nn.Linear(width, width)
        self.key_value = nn.Linear(width, 2 * width)
        self.project = nn.Linear(width, width)

    def forward(self, tokens: Tensor, others: Tensor | None = None) -> Tensor:
        """Look at the other tokens, or at one another if none are given."""
        query = self._split(self.query(tokens))
        key, value = self.key_value(tokens if others is None else others).chunk(2, dim=-1)
        seen = functional.scaled_dot_product_attention(query, self._split(key), self._split(value))
        result: Tensor = self.project(seen.transpose(1, 2).flatten(2))
        return result

    def _split(self, tokens: Tensor) -> Tensor:
        return tokens.reshape(*tokens.shape[:2], self.heads, -1).transpose(1, 2)


class TransformerLayer(nn.Module):
    """Attention, then a perceptron on each token, each on normalised tokens and added to them.

    Args:
        width: of a token.
        heads: divide the width.
        expansion: how much wider the perceptron is inside.
        dropout: share dropped of what is added, in training.
    """

    def __init__(self, width: int, *, heads: int, expansion: int = 4, dropout: float = 0.0) -> None:
        super().__init__()
        self.before_attention = nn.LayerNorm(width)
        self.attention = Attention(width, heads=heads)
        self.before_perceptron = nn.LayerNorm(width)
        self.perceptron = nn.Sequential(
            nn.Linear(width, expansion * width), nn.GELU(), nn.Linear(expansion * width, width)
        )
        self.dropout = nn.Dropout(dropout)

    def forward(self, tokens: Tensor) -> Tensor:
        """Tokens (N, tokens, width) to the same."""
        tokens = tokens + self.dropout(self.attention(self.before_attention(tokens)))
        result: Tensor = tokens + self.dropout(self.perceptron(self.before_perceptron(tokens)))
        return result


class TransformerBlock(nn.Module):
    """Layers in which each place of a map sees all others; (N, width, H, W) to the same, any size.

    Places are told apart by waves added to the features, which exist for any size and have
    nothing to learn.

    Args:
        width: channels.
        layers: one after the other.
        heads: at most; fewer where they do not divide the width.
        dropout: share dropped of what a layer adds, in training.

    Source: Dosovitskiy et al., "An Image is Worth 16x16 Words", 2021 (layers normalised first).
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
        """Let each place look at all others."""
        placed = features + positions(features)
        tokens = placed.flatten(2).transpose(1, 2)
        for layer in self.layers:
            tokens = layer(tokens)
        seen: Tensor = self.normalise(tokens).transpose(1, 2)
        return seen.reshape(features.shape)


def positions(features: Tensor) -> Tensor:
    """Return waves along rows, then along columns, (width, H, W), that tell the places apart.

    Source: Carion et al., "End-to-End Object Detection with Transformers", 2020: half the channels
        for either axis, sine and cosine of wavelengths in geometric progression.
    """
    width, rows, cols = features.shape[1:]
    down = _waves(rows, -(-width // 2), features.device)[:, :, None].expand(-1, -1, cols)
    right = _waves(cols, width // 2, features.device)[:, None, :].expand(-1, rows, -1)
    return torch.cat([down, right]).to(features.dtype)


def _waves(length: int, width: int, device: torch.device) -> Tensor:
    pairs = torch.arange(-(-width // 2), device=device)
    frequencies = LONGEST ** (-2 * pairs / max(1, width))
    phases = frequencies[:, None] * torch.arange(length, device=device)
    return torch.stack([phases.sin(), phases.cos()], dim=1).flatten(0, 1)[:width]
