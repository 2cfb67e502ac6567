"""Optimisers and learning-rate schedules by name."""

import math
from collections.abc import Callable, Iterable, Sequence
from typing import Annotated, Any

from pydantic import Field

from evaluation.core.specs import Table

Schedule = Callable[[float, Sequence[float]], float]
"""From the number of epochs done (may be fractional) and the holdout score of each whole epoch
(higher is better) to the fraction of the full learning rate."""

OPTIMIZERS = Table("optimizer", {"adamw": "members.optimizers:adamw"})
SCHEDULES = Table(
    "schedule",
    {
        "cosine": "members.optimizers:cosine",
        "constant": "members.optimizers:constant",
        "plateau": "members.optimizers:plateau",
    },
)

Warmup = Annotated[float, Field(ge=0, le=1_000_000)]
Ratio = Annotated[float, Field(ge=0, le=1)]
WARMUP_START = 0.01  # fraction of the full rate, so that the first step changes the weights


def adamw(
    parameters: Iterable[Any],
    *,
    lr: Annotated[float, Field(gt=0, le=1e30)] = 1e-3,
    weight_decay: Annotated[float, Field(ge=0, le=1e30)] = 1e-2,
) -> Any:
    """Build AdamW.

    References:
        Loshchilov and Hutter, "Decoupled Weight Decay Regularization", 2019.
    """
    from torch import optim

    return optim.AdamW(parameters, lr=lr, weight_decay=weight_decay)


def cosine(epochs: int, *, warmup: Warmup = 0.5, final_ratio: Ratio = 0.01) -> Schedule:
    """Rise linearly for `warmup` epochs, then fall along half a cosine to `final_ratio`.

    References:
        Loshchilov and Hutter, "SGDR", 2017, without restarts.

    Examples:
        >>> schedule = cosine(11, warmup=1.0, final_ratio=0.1)
        >>> [round(schedule(epoch, []), 2) for epoch in (0.5, 1.0, 6.0, 11.0)]
        [0.5, 1.0, 0.55, 0.1]
    """

    def schedule(done: float, _: Sequence[float]) -> float:
        if done < warmup:
            return max(done / warmup, WARMUP_START)
        progress = (done - warmup) / max(epochs - warmup, 1e-9)
        cosine = math.cos(math.pi * min(progress, 1.0))
        return final_ratio + (1 - final_ratio) * (1 + cosine) / 2

    return schedule


def constant(*, warmup: Warmup = 0.0) -> Schedule:
    """Rise linearly for `warmup` epochs, then keep the full learning rate.

    Examples:
        >>> [constant(warmup=2.0)(epoch, []) for epoch in (1.0, 2.0, 3.0)]
        [0.5, 1.0, 1.0]
    """
    return lambda done, _: max(done / warmup, WARMUP_START) if done < warmup else 1.0


def plateau(
    *,
    factor: Annotated[float, Field(gt=0, lt=1)] = 0.5,
    patience: Annotated[int, Field(ge=0, le=1_000_000)] = 2,
    final_ratio: Ratio = 0.01,
    warmup: Warmup = 0.5,
) -> Schedule:
    """Reduce the learning rate when the monitored score stops improving (ReduceLROnPlateau).

    Args:
        factor: the rate is multiplied by it at each reduction.
        patience: epochs without improvement that are tolerated before each reduction.
        final_ratio: lower bound, as a fraction of the full learning rate.
        warmup: epochs of a linear rise before.

    Examples:
        >>> plateau(patience=1)(5.0, [0.4, 0.6, 0.5, 0.5])
        0.5
    """

    def schedule(done: float, scores: Sequence[float]) -> float:
        if done < warmup:
            return max(done / warmup, WARMUP_START)
        best, epochs_since_best, ratio = -math.inf, 0, 1.0
        for score in scores:
            epochs_since_best = 0 if score > best else epochs_since_best + 1
            best = max(best, score)
            if epochs_since_best > patience:
                ratio, epochs_since_best = ratio * factor, 0
        return max(ratio, final_ratio)

    return schedule
