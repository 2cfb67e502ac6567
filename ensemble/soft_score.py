"""The score of sampled pixels by hard counts, and a smooth surrogate with its gradient."""

from dataclasses import dataclass, replace
from functools import cached_property
from typing import Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float, Integer

from ensemble.regression import directions
from ensemble.sampling import PerPixelFeatures
from evaluation.run_metric import SetMetric

STEPS = 15
"""Steps of a search."""

SHARPNESS = 4.0
"""Factor of the logits: the soft counts are then almost those of the decisions."""

LogScores = Float[np.ndarray, "scored pixel"]
Pixels = Integer[np.ndarray, "pixel"]
PerPixel = Float[np.ndarray, "pixel"]
Tables = Float[np.ndarray, "*group scored predicted"]
Parameters = Float[np.ndarray, "parameter"]
PixelFeatures = Float[np.ndarray, "feature pixel"]
PerScored = Float[np.ndarray, "scored"]
ClassFeatures = Float[np.ndarray, "scored feature"]
Bounds = list[tuple[float | None, float | None]]


@dataclass(frozen=True)
class ScoredPixels:
    """The target of sampled pixels, and what is measured on them.

    Args:
        target: index of the true class among the scored ones.
        weight: number of pixels that each one represents.
        group: index of its image's group.
        metric: of scored classes, by their indices among them.
        classes: number of scored classes.
        fold: whose networks predicted it; None where unknown.
    """

    target: Pixels
    weight: PerPixel
    group: Pixels
    metric: SetMetric
    classes: int
    fold: Pixels | None = None

    def take(self, rows: Pixels) -> "ScoredPixels":
        """Return some of the pixels."""
        return replace(
            self,
            target=self.target[rows],
            weight=self.weight[rows],
            group=self.group[rows],
            fold=None if self.fold is None else self.fold[rows],
        )

    def tables(self, pred: Pixels, groups: int) -> Tables:
        """Count (group, true class, predicted class).

        Args:
            pred: indices among the scored classes; `classes` stands for any other one.
            groups: number of groups.
        """
        size = groups, self.classes, self.classes + 1
        cells = (self.group * self.classes + self.target) * size[2] + pred
        return np.bincount(cells, self.weight, int(np.prod(size))).reshape(size)

    def score(self, tables: Tables) -> Float[np.ndarray, "*group"]:
        """Return the metric of tables: the mean over its classes that occur in the target."""
        over = list(self.metric.over)
        hits = np.diagonal(tables[..., :-1], axis1=-2, axis2=-1)
        true = tables.sum(axis=-1)
        union = true + tables[..., :-1].sum(axis=-2) - hits
        values, occurs = self.metric.per_class(hits, union)[..., over], true[..., over] > 0
        number = occurs.sum(axis=-1)
        total = np.where(occurs, values, 0).sum(axis=-1)
        return np.where(number > 0, total / np.maximum(number, 1), np.nan)

    def score_of(self, logits: LogScores) -> float:
        """Return the metric of the classes with the highest scores."""
        tables = self.tables(logits.argmax(axis=0), int(self.group.max()) + 1)
        return float(self.score(tables.sum(axis=0)))

    def soft_loss(self, logits: LogScores, sharpness: float) -> tuple[float, LogScores]:
        """Return 1 minus the score of soft counts, and its gradient by the logits.

        Pixels are counted by probabilities, the softmax of `sharpness` times the logits. It is the
        soft Jaccard (or Dice) loss over the whole set rather than a mean over images.

        References:
            Rahman and Wang, "Optimizing Intersection-Over-Union in Deep Neural Networks for Image
            Segmentation", ISVC 2016.
        """
        weight, cells, true = self._constants
        probs = logits * np.float32(sharpness)
        probs -= np.maximum.reduce(probs)
        np.exp(probs, out=probs)
        probs /= np.add.reduce(probs)
        own = probs.ravel()[cells]
        hits = np.bincount(self.target, self.weight * own, self.classes)
        predicted = probs @ weight
        over = [label for label in self.metric.over if true[label]]
        if not over:  # such as a part of the images without foreground
            return 1.0, np.zeros_like(probs)
        value, by_hits, by_predicted = self._ratios(true, hits, predicted, over)
        # The gradient by the probabilities, then through the softmax.
        of_class = by_predicted.astype(probs.dtype)
        of_own = by_hits.astype(probs.dtype)[self.target] * own
        gradient = of_class[:, None] - (of_class @ probs + of_own)
        gradient *= probs
        gradient.ravel()[cells] += of_own
        gradient *= weight * np.float32(-sharpness / len(over))
        return 1 - value / len(over), gradient

    @cached_property
    def _constants(self) -> tuple[PerPixel, Pixels, PerScored]:
        """Weights as float32, the cell of each pixel's true class, and pixels of each class."""
        pixels = np.arange(len(self.target))
        true = np.bincount(self.target, self.weight, self.classes)
        return self.weight.astype(np.float32), self.target * len(pixels) + pixels, true

    def _ratios(
        self, true: PerScored, hits: PerScored, predicted: PerScored, over: list[int]
    ) -> tuple[float, PerScored, PerScored]:
        """Return the sum of the ratios, and its derivatives by hits and by predicted pixels."""
        by_hits, by_predicted = np.zeros((2, self.classes))
        if self.metric.ratio == "dice":
            whole = (true + predicted)[over]
            by_hits[over], by_predicted[over] = 2 / whole, -2 * hits[over] / whole**2
            return float((2 * hits[over] / whole).sum()), by_hits, by_predicted
        union = (true + predicted - hits)[over]
        by_hits[over] = (union + hits[over]) / union**2
        by_predicted[over] = -hits[over] / union**2
        return float((hits[over] / union).sum()), by_hits, by_predicted


@runtime_checkable
class ScoreModel(Protocol):
    """Logits as a function of parameters, with their derivative."""

    def logits(self, parameters: Parameters) -> LogScores:
        """Return the scores of the classes."""
        ...

    def pull_back(self, gradient: LogScores) -> Parameters:
        """Turn a gradient by the logits last returned into one by the parameters."""
        ...


class LinearModel:
    """Logits that change by weighted sums of features and a bias per class.

    Args:
        base: the logits without change.
        features: (feature, pixel), float32.
    """

    def __init__(self, base: LogScores, features: PixelFeatures) -> None:
        self.base, self.features = base, features

    def zero(self) -> Parameters:
        """Return the parameters of no change."""
        return np.zeros(len(self.base) * (len(self.features) + 1))

    def unpack(self, parameters: Parameters) -> tuple[ClassFeatures, PerScored]:
        """Return the weights (class, feature) and the biases."""
        classes = len(self.base)
        return parameters[:-classes].reshape(classes, -1), parameters[-classes:]

    def logits(self, parameters: Parameters) -> LogScores:
        """Return the scores of the classes."""
        weights, bias = self.unpack(parameters.astype(np.float32))
        logits: LogScores = weights @ self.features
        logits += self.base
        logits += bias[:, None]
        return logits

    def pull_back(self, gradient: LogScores) -> Parameters:
        """Turn a gradient by the logits into one by the parameters."""
        by_weights = gradient @ self.features.T
        return np.concatenate([by_weights.ravel(), gradient.sum(axis=1)])


def fit_soft_score(
    model: ScoreModel,
    pixels: ScoredPixels,
    start: Parameters,
    anchor: LogScores,
    strength: float,
    bounds: Bounds | None = None,
) -> Parameters:
    """Minimise the soft loss plus half the strength times the mean squared change of the logits.

    Args:
        model: of the pixels.
        pixels: their target.
        start: parameters to start from.
        anchor: logits that the penalty pulls to; what is common to all classes does not count.
        strength: of the penalty.
        bounds: of the parameters.
    """
    from scipy.optimize import minimize

    share = (pixels.weight / pixels.weight.sum()).astype(np.float32)

    def loss(parameters: Parameters) -> tuple[float, Parameters]:
        logits = model.logits(parameters)
        value, gradient = pixels.soft_loss(logits, SHARPNESS)
        away = logits - anchor
        away -= np.add.reduce(away) * np.float32(1 / len(away))
        pull = away * (share * np.float32(strength))
        value += float(np.vdot(pull, away)) / 2
        gradient += pull
        return value, model.pull_back(gradient).astype(np.float64)

    result = minimize(
        loss, start, jac=True, method="L-BFGS-B", bounds=bounds, options={"maxiter": STEPS}
    )
    found: Parameters = result.x
    return found


def fit_linear_change(
    pixels: ScoredPixels,
    features: PerPixelFeatures,
    base: LogScores,
    anchor: LogScores,
    strength: float,
    *,
    l2: float = 1e-3,
) -> tuple[ClassFeatures, PerScored]:
    """Fit weights and biases that are added to logits, in coordinates without correlation.

    Args:
        pixels: their target.
        features: one row per pixel.
        base: the logits without change.
        anchor: see `fit_soft_score`.
        strength: see `fit_soft_score`.
        l2: see `ensemble.regression.directions`.

    Returns:
        Weights (class, feature) and biases.
    """
    weight = pixels.weight / pixels.weight.sum()
    centre = weight @ features
    centred = features - centre
    axes = directions(centred, weight, l2)
    model = LinearModel(base, (centred @ axes).T.astype(np.float32))
    found = fit_soft_score(model, pixels, model.zero(), anchor, strength)
    by_axis, bias = model.unpack(found)
    weights = by_axis @ axes.T
    return weights, bias - weights @ centre
