"""Log-odds of specialists added to pooled log-probabilities of members of all classes."""

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
    PixelwiseFusion,
    ScoredLabels,
    scored_labels,
)
from ensemble.sampling import Balance, PixelSample, SamplePixels, draw_pixels
from ensemble.strategies.means import MIN_LOG_ODDS_GAP
from ensemble.strategies.votes import ONE_VS_REST
from evaluation.core.seeds import Seed
from evaluation.core.types import Array, Map, Maps

STEPS = 500
GRADIENT_TOLERANCE = 1e-6

Bias = Float[np.ndarray, "scored"]
Weights = Float[np.ndarray, "scored member class"]
Special = Bool[np.ndarray, "member"]
Parameters = Float[np.ndarray, "parameter"]


def evidence(
    classes: int,
    ignore: int | None,
    kinds: tuple[str, ...],
    *,
    l2: Annotated[float, Field(gt=0, le=1e6)] = 1e-3,
    sample_pixels: SamplePixels = 100_000,
    balance: Balance = 0.0,
    floor: Annotated[float, Field(ge=SMALLEST, lt=0.5)] = 1e-6,
    seed: Seed = 0,
) -> LearnedFusion:
    """Pool the log-probabilities of members of all classes, and add specialists' log-odds.

    The score of a class is a weighted sum of the generalists' log-probabilities, one weight each,
    plus the log-odds of each specialist of that class, calibrated by a slope and an offset as in
    Platt scaling. Calibrated one by one, two specialists trained on the same images would count the
    same evidence twice; so all parameters are fitted together, for the lowest log-loss on held-out
    pixels. `stacking` fits more parameters, from any class to any other, and needs more pixels.

    The result is conditional on a pixel being scored: the ignored class gets probability 0.

    Args:
        ignore: the class whose pixels are left out of the fit.
        kinds: one per member: `one_vs_rest` is a set of specialists.
        l2: half of this, times the squared distance of the parameters from those of the geometric
            mean of the generalists, is added to the mean log-loss per pixel (in nats).
        sample_pixels: number of pixels to fit on, about as many of each class.
        balance: 0 weighs classes as often as they occur, 1 equally.
        floor: lower bound of probabilities; specialists' are also bounded by 1 - `floor`.
        seed: random seed of the sample.

    Examples:
        The generalist is undecided; the specialists are right three times out of four.

        >>> from ensemble.fusion import TrainingBlock
        >>> target, pred = np.array([[[0, 0, 0, 1]]]), np.array([[[0, 0, 0, 0]]])
        >>> general = np.full((1, 2, 1, 4), 0.5, np.float32)
        >>> special = np.where(pred[:, None] == np.arange(2)[:, None, None], 0.9, 0.1)
        >>> maps = np.stack([general, special]).astype(np.float32)
        >>> strategy = evidence(2, None, ("probabilities", "one_vs_rest"))
        >>> strategy.fit([TrainingBlock(maps, target)])(maps)[0, :, 0, 0].round(2)
        array([0.75, 0.25], dtype=float32)
    """
    special = np.array([kind == ONE_VS_REST for kind in kinds])

    def fit(blocks: Blocks) -> Fusion:
        sample = draw_pixels(
            blocks, classes=classes, ignore=ignore, pixels=sample_pixels, balance=balance, seed=seed
        )
        scored = scored_labels(classes, ignore)
        with one_blas_thread():
            weights, bias = _fit(sample, scored, special, l2=l2, floor=floor)
        return Evidence(weights, bias, scored, kinds, floor)

    return LearnedFusion(fit)


@dataclass(frozen=True)
class Evidence(PixelwiseFusion):
    """A softmax over weighted log-probabilities and log-odds.

    Args:
        weights: weight of a member's log-probability (a specialist's log-odds) of a class in the
            score of each scored class: 0 but for the same class.
        bias: offset of each scored class.
        scored: labels of the scored classes; others get probability 0.
        floor: lower bound of probabilities.
    """

    weights: Weights
    bias: Bias
    scored: ScoredLabels
    kinds: tuple[str, ...]
    floor: float

    def _scores(self, maps: Maps) -> Map:
        # From the first to the last scored class: a view, while a list of classes would copy.
        first, end = self.scored[0], self.scored[-1] + 1
        indices = self.scored - first
        table = np.zeros((len(maps), end - first), np.float32)
        table[:, indices] = self.weights[np.arange(len(indices)), :, self.scored].T
        total = np.zeros_like(maps[0][:, first:end])
        logs, floor = np.empty_like(total), np.full_like(total, self.floor)
        for one, kind, weights in zip(maps[:, :, first:end], self.kinds, table, strict=True):
            np.maximum(one, floor, out=logs)
            if kind == ONE_VS_REST:
                logs /= _complement(one, self.floor)
            np.log(logs, out=logs)
            logs *= weights[:, None, None]
            total += logs
        scores: Map = np.zeros(maps.shape[1:], np.float32)
        logits = total[:, indices] + self.bias[:, None, None]
        logits -= logits.max(axis=CLASS_AXIS, keepdims=True)
        scores[:, self.scored] = np.exp(logits, out=logits)
        return scores


def _complement(probability: Array, floor: float) -> Array:
    complement: Array = np.maximum(1 - probability, np.float32(max(floor, MIN_LOG_ODDS_GAP)))
    return complement


def _fit(
    sample: PixelSample, scored: ScoredLabels, special: Special, *, l2: float, floor: float
) -> tuple[Weights, Bias]:
    """Minimise the penalised log-loss: a convex problem."""
    probs = sample.maps[:, :, scored].transpose(1, 0, 2)
    logs = np.log(np.maximum(probs, np.float32(floor)))
    logs[special] -= np.log(_complement(probs[special], floor))
    true = sample.target[:, None] == scored
    index = _parameter_index(special, len(scored))
    prior = np.zeros(index.max() + 1)
    prior[index[:-1][~special]] = 1 / np.maximum(np.count_nonzero(~special), 1)

    def loss(parameters: Parameters) -> tuple[float, Parameters]:
        table, away = parameters[index], parameters - prior
        log_probs = np.einsum("mpk,mk->pk", logs, table[:-1]) + table[-1]
        log_probs -= logsumexp(log_probs, axis=1, keepdims=True)
        excess = (np.exp(log_probs) - true) * sample.weight[:, None]
        by_table = [*np.einsum("mpk,pk->mk", logs, excess), excess.sum(axis=0)]
        gradient = np.bincount(index.ravel(), np.ravel(by_table)) + l2 * away
        return l2 / 2 * float(away @ away) - float(sample.weight @ log_probs[true]), gradient

    result = minimize(
        loss,
        prior,
        jac=True,
        method="L-BFGS-B",
        options={"maxiter": STEPS, "gtol": GRADIENT_TOLERANCE},
    )
    best = result.x[index]
    weights = np.zeros((len(scored), *sample.maps.shape[1:]), np.float32)
    weights[np.arange(len(scored)), :, scored] = best[:-1].T
    return weights, best[-1].astype(np.float32)


def _parameter_index(special: Special, scored: int) -> Integer[np.ndarray, "row scored"]:
    """Return the parameter of each weight (one row per member) and of each bias (the last row).

    A generalist has one for all classes, a specialist one per class.
    """
    firsts = np.cumsum([0, *np.where(special, scored, 1)])
    per_class = np.append(special, True)
    return firsts[:, None] + np.where(per_class[:, None], np.arange(scored), 0)
