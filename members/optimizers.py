"""Optimisers and learning-rate schedules by name."""

import math
from collections.abc import Callable, Iterable, Sequence
from typing import Annotated

from pydantic import Field
from torch import nn, optim

from evaluation.core.specs import Table

Schedule = Callable[[float, Sequence[float]], float]
"""From epochs done (fractions too) and the scores that each whole epoch reached on the holdout
(higher is better) to the share of the full learning rate."""

OPTIMIZERS = Table("optimizer", {"adamw": "members.optimizers:adamw"})
SCHEDULES = Table(
    "schedule",
    {
        "cosine": "members.optimizers:cosine",
        "constant": "members.optimizers:constant",
        "plateau": "members.optimizers:plateau",
    },
)

Warmup = Annotated[float, Field(ge=0)]
BARELY = 0.01  # where a warm-up starts, so that the first step moves at all


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
    epochs: int, *, warmup: Warmup = 0.5, end: Annotated[float, Field(ge=0, le=1)] = 0.01
) -> Schedule:
    """Rise linearly for `warmup` epochs, then fall along half a cosine to the share `end`.

    Source: Loshchilov and Hutter, "SGDR", 2017, without restarts.
    """

    def share(done: float, _: Sequence[float]) -> float:
        if done < warmup:
            return max(done / warmup, BARELY)
        left = (done - warmup) / max(epochs - warmup, 1e-9)
        return end + (1 - end) * (1 + math.cos(math.pi * min(left, 1.0))) / 2

    return share


def constant(*, warmup: Warmup = 0.0) -> Schedule:
    """Rise linearly for `warmup` epochs, then keep the full learning rate."""
    return lambda done, _: max(done / warmup, BARELY) if done < warmup else 1.0


def plateau(
    *,
    factor: Annotated[float, Field(gt=0, lt=1)] = 0.5,
    wait: Annotated[int, Field(ge=0)] = 2,
    end: Annotated[float, Field(ge=0, le=1)] = 0.01,
    warmup: Warmup = 0.5,
) -> Schedule:
    """Reduce the learning rate when the monitored score no longer rises (ReduceLROnPlateau).

    Args:
        factor: what the rate is multiplied by.
        wait: epochs without a better score that are forgiven before each reduction.
        end: the smallest share.
        warmup: epochs of a linear rise before.
    """

    def share(done: float, scores: Sequence[float]) -> float:
        if done < warmup:
            return max(done / warmup, BARELY)
        best, since, now = -math.inf, 0, 1.0
        for score in scores:
            since = 0 if score > best else since + 1
            best = max(best, score)
            if since > wait:
                now, since = now * factor, 0
        return max(now, end)

    return share
