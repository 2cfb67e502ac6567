"""From foreign values to maps of ours."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from evaluation.ground.arrays import Array, Map
from members.foreign.agreement import Order
from members.foreign.turns import Turn
from members.foreign.values import AS_THEY_ARE, Scale, probabilities, scaled


@dataclass(frozen=True)
class Repair:
    """What turns foreign values into maps of ours.

    Args:
        channels: how many labels there are to make channels of; None for values.
        dtype: of the values on disk.
        scale: what makes them probabilities.
        turn: of rows and columns.
        order: the channel of each class.
    """

    channels: int | None
    dtype: str
    scale: Scale
    turn: Turn
    order: Order

    def document(self) -> dict[str, Any]:
        """Return it as JSON values."""
        return {"scale": self.scale, "turn": str(self.turn), "order": list(self.order)}

    def __call__(self, values: Array) -> Map:
        """Return probabilities (picture, class, row, col), float32."""
        if self.channels is not None:
            known = np.arange(self.channels)[:, None, None]
            maps = (values[:, None] == known).astype(np.float32)
        else:
            maps = probabilities(scaled(values, self.dtype), self.scale)
        pairs = [(c, channel) for c, channel in enumerate(self.order) if channel is not None]
        to, of = (list(part) for part in zip(*pairs, strict=True))
        placed = np.zeros((len(maps), len(self.order), *maps.shape[2:]), np.float32)
        placed[:, to] = maps[:, of]
        if len(pairs) < maps.shape[1]:
            placed = probabilities(placed, AS_THEY_ARE)
        return np.ascontiguousarray(self.turn(placed))
