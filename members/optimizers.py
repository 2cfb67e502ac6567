"""Optimisers and learning-rate schedules by name."""

import math
from collections.abc import Callable, Iterable
from typing import Annotated

from pydantic import Field
from torch import nn, optim

from evaluation.ground.specs import Table

Schedule = Callable[[float], float]
"""From epochs done (fractions too) to the share of the full learning rate."""

OPTIMIZERS = Table("optimizer", {"adamw": "members.optimizers:adamw"})
SCHEDULES = Table(
    "schedule",
    {"cosine": "members.optimizers:cosine", "constant": "members.optimizers:constant"},
)


def adamw(
    parameters: Iterable[nn.Parameter],
    *,
    lr: Annotated[float, Field(gt=0)] = 1e-3,
    weight_decay: Annotated[float, Field(ge=0)] = 1e-2,
) -> optim.AdamW:
    """Build AdamW.

    Source: Loshchilov and Hutter, "Decoupled Weight Decay Regularization", 2019.
    """
    return optim.AdamW(parameters, lr=lr, weight_decay=weight_decay)


def cosine(
    epochs: int,
    *,
    warmup: Annotated[float, Field(ge=0)] = 0.5,
    end: Annotated[float, Field(ge=0, le=1)] = 0.01,
) -> Schedule:
    """Rise linearly for `warmup` epochs, then fall along half a cosine to the share `end`.

    Source: Loshchilov and Hutter, "SGDR", 2017, without restarts.
    """

    def share(done: float) -> float:
        if done < warmup:
            return max(done / warmup, 0.01)
        left = (done - warmup) / max(epochs - warmup, 1e-9)
        return end + (1 - end) * (1 + math.cos(math.pi * min(left, 1.0))) / 2

    return share


def constant() -> Schedule:
    """Keep the full learning rate."""
    return lambda _: 1.0
