"""Log-odds of specialists added to pooled log-probabilities of members of all classes."""

from dataclasses import dataclass, replace
from typing import Annotated

import numpy as np
from jaxtyping import Bool, Float, Integer
from pydantic import Field
from scipy.optimize import minimize
from scipy.special import logsumexp

from ensemble.blas import one_blas_thread
from ensemble.decision import DecisionSample, Learner, Objective
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
from ensemble.sampling import Balance, PixelSample, SamplePixels, draw_pixels, take
from ensemble.soft_score import LogScores, Pixels, fit_soft_score
from ensemble.strategies.means import MIN_LOG_ODDS_GAP
from ensemble.strategies.votes import ONE_VS_REST
from ensemble.strategies.weighted_mean import fit_pixel_decision
from evaluation.bias_search import Biases
from evaluation.core.seeds import Seed
from evaluation.core.types import Array, Map, Maps
from evaluation.run_metric import SetMetric

STEPS = 500
GRADIENT_TOLERANCE = 1e-6

Bias = Float[np.ndarray, "scored"]
Weights = Float[np.ndarray, "scored member class"]
Index = Integer[np.ndarray, "row scored"]
Logs = Float[np.ndarray, "member _ _"]
"""Of each pixel and scored class."""
Table = Float[np.ndarray, "member scored"]
Special = Bool[np.ndarray, "member"]
Parameters = Float[np.ndarray, "parameter"]


def evidence(
    classes: int,
    ignore: int | None,
    kinds: tuple[str, ...],
    metric: SetMetric | None = None,
    *,
    objective: Objective = "metric",
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

    By default decisions have parameters of their own: from those of the log-loss on to the highest
    score.

    The result is conditional on a pixel being scored: the ignored class gets probability 0.

    Args:
        ignore: the class whose pixels are left out of the fit.
        kinds: one per member: `one_vs_rest` is a set of specialists.
        metric: what decisions are fitted by; by default the mean IoU of all classes but the ignored
            one.
        objective: what decisions are fitted by, `metric` or `log_loss`; see `ensemble.decision`.
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
        >>> kinds = ("probabilities", "one_vs_rest")
        >>> strategy = evidence(2, None, kinds, objective="log_loss")
        >>> strategy.fit([TrainingBlock(maps, target)])(maps)[0, :, 0, 0].round(2)
        array([0.75, 0.25], dtype=float32)
    """

    def fit(blocks: Blocks) -> Fusion:
        sample = draw_pixels(
            blocks, classes=classes, ignore=ignore, pixels=sample_pixels, balance=balance, seed=seed
        )

        if objective == "log_loss":
            scored = scored_labels(classes, ignore)
            with one_blas_thread():
                return _fit(sample, scored, kinds, l2=l2, floor=floor)

        def learner(prepared: DecisionSample) -> Learner:
            return _EvidenceLearner(prepared, kinds, l2, floor)

        return fit_pixel_decision(sample, learner, kinds, metric, ignore)

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


def _log_evidence(
    sample: PixelSample, scored: ScoredLabels, special: Special, floor: float
) -> Logs:
    """Return log-probabilities of generalists and log-odds of specialists."""
    probs = sample.maps[:, :, scored].transpose(1, 0, 2)
    logs: Logs = np.log(np.maximum(probs, np.float32(floor)))
    logs[special] -= np.log(_complement(probs[special], floor))
    return logs


def _fit(
    sample: PixelSample, scored: ScoredLabels, kinds: tuple[str, ...], *, l2: float, floor: float
) -> Evidence:
    """Minimise the penalised log-loss: a convex problem."""
    special = np.array(kinds) == ONE_VS_REST
    logs = _log_evidence(sample, scored, special, floor)
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
    return Evidence(weights, best[-1].astype(np.float32), scored, kinds, floor)


def _parameter_index(special: Special, scored: int) -> Index:
    """Return the parameter of each weight (one row per member) and of each bias (the last row).

    A generalist has one for all classes, a specialist one per class.
    """
    firsts = np.cumsum([0, *np.where(special, scored, 1)])
    per_class = np.append(special, True)
    return firsts[:, None] + np.where(per_class[:, None], np.arange(scored), 0)


class _EvidenceLearner(Learner):
    """A fusion as parameters."""

    def __init__(
        self, prepared: DecisionSample, kinds: tuple[str, ...], l2: float, floor: float
    ) -> None:
        super().__init__(prepared.pixels, prepared.labels)
        self.prepared, self.kinds, self.l2, self.floor = prepared, kinds, l2, floor
        special = np.array(kinds) == ONE_VS_REST
        logs = _log_evidence(prepared.sample, prepared.scored, special, floor)
        self.logs = np.ascontiguousarray(logs.transpose(0, 2, 1))
        self.index = _parameter_index(special, len(prepared.scored))

    def start(self, rows: Pixels) -> Evidence:
        """Return the fit by the log-loss."""
        sample = take(self.prepared.sample, rows)
        return _fit(sample, self.prepared.scored, self.kinds, l2=self.l2, floor=self.floor)

    def improve(self, rows: Pixels, start: Evidence, anchor: Evidence, strength: float) -> Evidence:
        """Fit the parameters by the metric."""
        model = _EvidenceModel(self.logs[:, :, rows], self.index)
        table = np.concatenate([self._table(start), start.bias[None]])
        parameters = np.zeros(self.index.max() + 1)
        parameters[self.index] = table
        found = fit_soft_score(
            model, self.pixels.take(rows), parameters, self.logits(anchor, rows), strength
        )[self.index].astype(np.float32)
        weights = np.zeros_like(start.weights)
        scored = self.prepared.scored
        weights[np.arange(len(scored)), :, scored] = found[:-1].T
        return replace(start, weights=weights, bias=found[-1])

    def logits(self, parameters: Evidence, rows: Pixels) -> LogScores:
        """Return weighted sums of the evidence."""
        sums = np.einsum("mkp,mk->kp", self.logs[:, :, rows], self._table(parameters))
        logits: LogScores = sums + parameters.bias[:, None]
        return logits

    def with_bias(self, parameters: Evidence, bias: Biases) -> Evidence:
        """Add to the biases."""
        return replace(parameters, bias=parameters.bias + bias.astype(np.float32))

    def fusion(self, parameters: Evidence) -> Fusion:
        """Return the parameters, which are the fusion."""
        return parameters

    def _table(self, parameters: Evidence) -> Table:
        scored = self.prepared.scored
        return parameters.weights[np.arange(len(scored)), :, scored].T


class _EvidenceModel:
    """Logits of parameters that several classes may share; see `_parameter_index`."""

    def __init__(self, logs: Logs, index: Index) -> None:
        self.logs, self.index = logs, index

    def logits(self, parameters: Parameters) -> LogScores:
        """Return the scores of the classes."""
        table = parameters[self.index].astype(np.float32)
        logits: LogScores = np.einsum("mkp,mk->kp", self.logs, table[:-1])
        logits += table[-1][:, None]
        return logits

    def pull_back(self, gradient: LogScores) -> Parameters:
        """Turn a gradient by the logits into one by the parameters."""
        by_table = [*np.einsum("mkp,kp->mk", self.logs, gradient), gradient.sum(axis=1)]
        return np.bincount(self.index.ravel(), np.ravel(by_table))
