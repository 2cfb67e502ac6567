"""How the encoder's features come to the decoder's of the same size."""

from typing import Literal

import torch
from torch import Tensor, nn

from members.architectures.attention import AttentionGate, FeatureGate

SkipName = Literal["concat", "gate_add", "gate_concat", "attention"]


class Skip(nn.Module):
    """Skip (N, skip, H, W) and features (N, width, H, W) to both together, (N, merged, H, W).

    `concat` puts them next to each other; `gate_add` and `gate_concat` first weigh each value of
    the skip, `attention` each place of it. A gate needs a skip as wide as the features.

    Args:
        kind: which.
        width: channels of the features.
        skip: channels of the skip; those of the features if not given.
    """

    def __init__(self, kind: SkipName, width: int, skip: int | None = None) -> None:
        super().__init__()
        self.adds = kind == "gate_add"
        self.merged = width if self.adds else width + (skip or width)
        self.gate: nn.Module | None = None
        if kind != "concat":
            self.gate = AttentionGate(width) if kind == "attention" else FeatureGate(width)

    def forward(self, skip: Tensor, features: Tensor) -> Tensor:
        """Weigh the skip by the features, then add it or put it before them."""
        weighed = skip if self.gate is None else self.gate(skip, features)
        return weighed + features if self.adds else torch.cat([weighed, features], dim=1)
