"""What specialists say of their class, added to what members of all classes say together."""

from dataclasses import dataclass
from typing import Annotated

import numpy as np
from jaxtyping import Bool, Float, Integer
from pydantic import Field
from scipy.optimize import minimize
from scipy.special import logsumexp

from ensemble.blas import one_blas_thread
from ensemble.fusion import (
    CLASS_AXIS,
    SMALLEST,
    Blocks,
    Fusion,
    LearnedFusion,
    by_pieces,
)
from ensemble.sampling import PixelSample, sample
from ensemble.strategies.means import NEAREST
from ensemble.strategies.votes import ONE_VS_REST
from evaluation.core.types import Array, Map, Maps

STEPS = 500
GRADIENT_TOLERANCE = 1e-6

Bias = Float[np.ndarray, "scored"]
Weights = Float[np.ndarray, "scored member class"]
Labelled = Integer[np.ndarray, "scored"]
Special = Bool[np.ndarray, "member"]
Parameters = Float[np.ndarray, "parameter"]


def evidence(
    classes: int,
    ignore: int | None,
    kinds: tuple[str, ...],
    *,
    l2: Annotated[float, Field(gt=0)] = 1e-3,
    sample_pixels: Annotated[int, Field(ge=1)] = 100_000,
    balance: Annotated[float, Field(ge=0, le=1)] = 0.0,
    floor: Annotated[float, Field(ge=SMALLEST, lt=0.5)] = 1e-6,
    seed: Annotated[int, Field(ge=0)] = 0,
) -> LearnedFusion:
    """Pool the log-probabilities of members of all classes, and add specialists' log-odds.

    The score of a class is a weighted sum of the generalists' log-probabilities, one weight each,
    plus the log-odds that each specialist of that class gives, calibrated by a slope and an offset
    as in Platt's scaling. Calibrated alone, two that saw the same image would count its evidence
    twice; so all are learned together, as those that make the target of held-out pixels most
    probable. `stacking` learns more, from any class to any other, and needs more to learn from.

    The result is conditional on a pixel being scored: the ignored class gets probability 0.

    Args:
        classes: how many classes there are.
        ignore: the class whose pixels are not learned from.
        kinds: one a member: `one_vs_rest` is a family of specialists.
        l2: half of this, times the squared distance of the parameters from those of the geometric
            mean of the generalists, is added to the mean log-loss of a pixel (in nats).
        sample_pixels: how many pixels to learn from, about the same number of each class.
        balance: 0 counts classes as often as they occur, 1 all alike.
        floor: probabilities below this are raised to it, and specialists' above 1 - `floor` lowered
            to that.
        seed: of the draw of pixels.
    """
    special = np.array([kind == ONE_VS_REST for kind in kinds])

    def fit(blocks: Blocks) -> Fusion:
        drawn = sample(
            blocks, classes=classes, ignore=ignore, pixels=sample_pixels, balance=balance, seed=seed
        )
        scored = np.array([label for label in range(classes) if label != ignore])
        with one_blas_thread():
            weights, bias = _learned(drawn, scored, special, l2=l2, floor=floor)
        return Evidence(weights, bias, scored, kinds, floor)

    return LearnedFusion(fit)


@dataclass(frozen=True)
class Evidence:
    """A softmax over weighted log-probabilities and log-odds.

    Args:
        weights: what a member's log-probability (a specialist's log-odds) of a class adds for each
            scored class: nothing but for its own.
        bias: what is added for each scored class.
        scored: the labels of the scored classes; others get probability 0.
        kinds: one a member.
        floor: probabilities below this are raised to it.
    """

    weights: Weights
    bias: Bias
    scored: Labelled
    kinds: tuple[str, ...]
    floor: float

    def __call__(self, maps: Maps) -> Map:
        """Fuse."""
        return by_pieces(maps, self._scores)

    def _scores(self, maps: Maps) -> Map:
        # From the first to the last scored class: a view, not a copy as of single classes.
        first, end = self.scored[0], self.scored[-1] + 1
        places = self.scored - first
        table = np.zeros((len(maps), end - first), np.float32)
        table[:, places] = self.weights[np.arange(len(places)), :, self.scored].T
        found = np.zeros_like(maps[0][:, first:end])
        logs, floor = np.empty_like(found), np.full_like(found, self.floor)
        for one, kind, weights in zip(maps[:, :, first:end], self.kinds, table, strict=True):
            np.maximum(one, floor, out=logs)
            if kind == ONE_VS_REST:
                logs /= _against(one, self.floor)
            np.log(logs, out=logs)
            logs *= weights[:, None, None]
            found += logs
        scores: Map = np.zeros(maps.shape[1:], np.float32)
        odds = found[:, places] + self.bias[:, None, None]
        odds -= odds.max(axis=CLASS_AXIS, keepdims=True)
        scores[:, self.scored] = np.exp(odds, out=odds)
        return scores


def _against(probability: Array, floor: float) -> Array:
    against: Array = np.maximum(1 - probability, np.float32(max(floor, NEAREST)))
    return against


def _learned(
    drawn: PixelSample,
    scored: Labelled,
    special: Special,
    *,
    l2: float,
    floor: float,
) -> tuple[Weights, Bias]:
    """Minimise the penalised log-loss: a convex problem."""
    said = drawn.maps[:, :, scored].transpose(1, 0, 2)
    logs = np.log(np.maximum(said, np.float32(floor)))
    logs[special] -= np.log(_against(said[special], floor))
    true = drawn.target[:, None] == scored
    which = _parameters(special, len(scored))
    pool = np.zeros(which.max() + 1)
    pool[which[:-1][~special]] = 1 / np.maximum(np.count_nonzero(~special), 1)

    def loss(parameters: Parameters) -> tuple[float, Parameters]:
        table, away = parameters[which], parameters - pool
        found = np.einsum("mpk,mk->pk", logs, table[:-1]) + table[-1]
        found -= logsumexp(found, axis=1, keepdims=True)
        excess = (np.exp(found) - true) * drawn.weight[:, None]
        by_table = [*np.einsum("mpk,pk->mk", logs, excess), excess.sum(axis=0)]
        slope = np.bincount(which.ravel(), np.ravel(by_table)) + l2 * away
        return l2 / 2 * float(away @ away) - float(drawn.weight @ found[true]), slope

    found = minimize(
        loss,
        pool,
        jac=True,
        method="L-BFGS-B",
        options={"maxiter": STEPS, "gtol": GRADIENT_TOLERANCE},
    )
    best = found.x[which]
    weights = np.zeros((len(scored), *drawn.maps.shape[1:]), np.float32)
    weights[np.arange(len(scored)), :, scored] = best[:-1].T
    return weights, best[-1].astype(np.float32)


def _parameters(special: Special, scored: int) -> Integer[np.ndarray, "row scored"]:
    """Say which parameter each weight is (a row a member) and each bias (the last row).

    A generalist has one for all classes, a specialist one for each.
    """
    firsts = np.cumsum([0, *np.where(special, scored, 1)])
    own = np.append(special, True)
    return firsts[:, None] + np.where(own[:, None], np.arange(scored), 0)
