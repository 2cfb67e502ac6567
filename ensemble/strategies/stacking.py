"""Stacking: multinomial logistic regression on the log-probabilities of all members."""

from dataclasses import dataclass, replace
from typing import Annotated

import numpy as np
from jaxtyping import Float
from pydantic import Field
from scipy.linalg.blas import sgemm

from ensemble.decision import DecisionSample, Learner, Objective
from ensemble.fusion import Blocks, Floor, Fusion, LearnedFusion, ScoredLabels
from ensemble.pixel_context import ContextFeatures, ContextFusion
from ensemble.regression import regression
from ensemble.sampling import (
    Balance,
    PerPixelFeatures,
    PixelSample,
    SamplePixels,
    check_all_scored_occur,
    draw_pixels,
    take,
)
from ensemble.soft_score import LogScores, Pixels, fit_linear_change
from ensemble.strategies.weighted_mean import fit_pixel_decision
from evaluation.bias_search import Biases
from evaluation.core.seeds import Seed
from evaluation.core.types import Array, Map, Maps
from evaluation.run_metric import SetMetric

Bias = Float[np.ndarray, "scored"]


def stacking(
    classes: int,
    ignore: int | None,
    metric: SetMetric | None = None,
    *,
    objective: Objective = "metric",
    l2: Annotated[float, Field(gt=0, le=1e6)] = 1e-3,
    neighbours: Annotated[int, Field(ge=0, le=1000)] = 0,
    intensity: bool = False,
    sample_pixels: SamplePixels = 200_000,
    balance: Balance = 0.0,
    floor: Floor = 1e-6,
    seed: Seed = 0,
) -> LearnedFusion:
    """Fit a softmax over weighted log-probabilities of all members and classes.

    That can correct systematic errors of a member (overconfidence, a class it misses or confuses
    with another), which no mean can. The regression starts from the geometric mean and is
    regularised towards it by `l2`: a large `l2` gives the geometric mean with a bias per class, not
    a uniform prediction.

    By default decisions have weights and biases of their own: from those of the log-loss, which
    loses rare classes, on to the highest score.

    Pixels of the ignored class are left out of the fit, and the result is conditional on a pixel
    being scored: the ignored class gets probability 0 everywhere.

    Args:
        ignore: the class whose pixels are left out of the fit.
        metric: what decisions are fitted by; by default the mean IoU of all classes but the ignored
            one.
        objective: what decisions are fitted by, `metric` or `log_loss`; see `ensemble.decision`.
        l2: half of this, times the squared distance of the weights from those of the geometric
            mean, is added to the mean log-loss per pixel (in nats).
        neighbours: radius in px of the square around a pixel whose mean probabilities (over all
            members, as logarithms) are features too; 0 uses the pixel alone.
        intensity: whether the image's grey value and its square are features too.
        sample_pixels: number of pixels to fit on, about as many of each class, weighted back to the
            true shares. With 50 features, 100,000 lose .0006 nats against millions, and 200,000
            half of that.
        balance: 0 weighs classes as often as they occur, 1 equally; between, rare classes are
            predicted more often than the log-loss asks for, which raises a mean of IoU.
        floor: lower bound of probabilities before the logarithm.
        seed: random seed of the sample.

    Examples:
        A member that confuses two classes everywhere is corrected.

        >>> from ensemble.fusion import TrainingBlock
        >>> target = np.array([[[0, 1, 1, 0]]])
        >>> wrong = np.where(target[:, None] == np.arange(2)[:, None, None], 0.2, 0.8)
        >>> maps = wrong[None].astype(np.float32)
        >>> fusion = stacking(2, None, objective="log_loss").fit([TrainingBlock(maps, target)])
        >>> fusion(maps).argmax(axis=1)
        array([[[0, 1, 1, 0]]])
    """
    context = ContextFeatures(neighbours, intensity, floor)

    def fit(blocks: Blocks) -> Fusion:
        sample = draw_pixels(
            blocks,
            classes=classes,
            ignore=ignore,
            pixels=sample_pixels,
            balance=balance,
            seed=seed,
            extra_features=context.compute,
        )
        scored = check_all_scored_occur(sample.counts, ignore, "stacking")
        if objective == "log_loss":
            return _fit(sample, scored, context, l2)

        def learner(prepared: DecisionSample) -> Learner:
            return _StackingLearner(prepared, context, l2)

        kinds = ("probabilities",) * sample.maps.shape[1]
        return fit_pixel_decision(sample, learner, kinds, metric, ignore)

    return LearnedFusion(fit, needs_images=intensity)


@dataclass(frozen=True)
class Stacking(ContextFusion):
    """A softmax over weighted log-probabilities.

    Args:
        weights: weight of each member's log-probability of each class, per scored class.
        extra_weights: weight of each of the `ContextFeatures`.
        bias: offset of each scored class.
        scored: labels of the scored classes; others get probability 0.
        floor: lower bound of probabilities.
    """

    weights: Float[np.ndarray, "scored member class"]
    extra_weights: Float[np.ndarray, "scored feature"]
    bias: Bias
    scored: ScoredLabels
    floor: float
    neighbours: int
    intensity: int

    def _scores(self, maps: Maps, *context: Array) -> Map:
        images, classes, rows, cols = maps.shape[1:]
        logits = np.empty((images, len(self.bias), rows * cols), np.float32)
        logits[:] = self.bias[:, None]
        for features in context:
            logits += self.extra_weights @ features.reshape(images, -1, rows * cols)
        # One member's logarithms at a time stay in the cache until they are added up.
        logs = np.empty((classes, rows, cols), np.float32)
        columns = logs.reshape(classes, -1).T
        # NumPy takes the maximum with an array three times as fast as with a number.
        floor = np.full_like(logs, self.floor)
        for member, weights in enumerate(np.moveaxis(self.weights, 1, 0)):
            for one, total in zip(maps[member], logits, strict=True):
                np.log(np.maximum(one, floor, out=logs), out=logs)
                sgemm(1.0, columns, weights.T, 1.0, total.T, overwrite_c=True)
        logits -= logits.max(axis=1, keepdims=True)
        scores: Map = np.zeros((images, classes, rows, cols), np.float32)
        scores[:, self.scored] = np.exp(logits, out=logits).reshape(images, -1, rows, cols)
        return scores


def _fit(
    sample: PixelSample, scored: ScoredLabels, context: ContextFeatures, l2: float
) -> Stacking:
    _, members, classes = sample.maps.shape
    pool = np.tile(np.eye(classes)[scored], members) / members
    weights, bias = regression(
        _features(sample, context.floor),
        np.searchsorted(scored, sample.target),
        sample.weight,
        prior=np.pad(pool, [(0, 0), (0, sample.extra_features.shape[1])]),
        l2=l2,
    )
    of_members, extra = np.split(weights.astype(np.float32), [members * classes], axis=1)
    return Stacking(
        of_members.reshape(len(scored), members, classes),
        extra,
        bias.astype(np.float32),
        scored,
        context.floor,
        context.neighbours,
        int(context.intensity),
    )


def _features(sample: PixelSample, floor: float) -> PerPixelFeatures:
    logs = np.log(np.maximum(sample.maps, floor), dtype=np.float64)
    return np.concatenate([logs.reshape(len(logs), -1), sample.extra_features], axis=1)


class _StackingLearner(Learner):
    """A fusion as parameters."""

    def __init__(self, prepared: DecisionSample, context: ContextFeatures, l2: float) -> None:
        super().__init__(prepared.pixels, prepared.labels)
        self.prepared, self.context, self.l2 = prepared, context, l2
        self.features = _features(prepared.sample, context.floor)

    def start(self, rows: Pixels) -> Stacking:
        """Return the regression."""
        sample = take(self.prepared.sample, rows)
        return _fit(sample, self.prepared.scored, self.context, self.l2)

    def improve(self, rows: Pixels, start: Stacking, anchor: Stacking, strength: float) -> Stacking:
        """Fit weights and biases by the metric, in coordinates without correlation."""
        weights, bias = fit_linear_change(
            self.pixels.take(rows),
            self.features[rows],
            self.logits(start, rows),
            self.logits(anchor, rows),
            strength,
            l2=self.l2,
        )
        of_members, extra = np.split(weights, [start.weights[0].size], axis=1)
        return replace(
            start,
            weights=start.weights + of_members.reshape(start.weights.shape).astype(np.float32),
            extra_weights=start.extra_weights + extra.astype(np.float32),
            bias=start.bias + bias.astype(np.float32),
        )

    def logits(self, parameters: Stacking, rows: Pixels) -> LogScores:
        """Return weighted sums of the features."""
        flat = parameters.weights.reshape(len(parameters.bias), -1)
        weights = np.concatenate([flat, parameters.extra_weights], axis=1)
        logits = weights @ self.features[rows].T + parameters.bias[:, None]
        scores: LogScores = logits.astype(np.float32)
        return scores

    def with_bias(self, parameters: Stacking, bias: Biases) -> Stacking:
        """Add to the biases."""
        return replace(parameters, bias=parameters.bias + bias.astype(np.float32))

    def fusion(self, parameters: Stacking) -> Fusion:
        """Return the parameters, which are the fusion."""
        return parameters
