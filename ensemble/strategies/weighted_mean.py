"""The weighted mean over members, with weights given or learned, for all classes or for each."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float

from ensemble.decision import INNER_PIXELS, DecisionSample, Learner, Objective, fit_decision
from ensemble.fusion import Blocks, Floor, Fusion, LearnedFusion, PixelwiseFusion
from ensemble.sampling import Balance, PerPixel, PixelSample, SamplePixels, draw_pixels, take, thin
from ensemble.soft_score import Bounds, LogScores, Parameters, Pixels, fit_soft_score
from ensemble.strategies.means import Mean, fallback_to_mean
from ensemble.strategies.votes import ONE_VS_REST
from evaluation.bias_search import Biases
from evaluation.core.errors import BadMaps, BadSpec
from evaluation.core.seeds import Seed
from evaluation.core.types import Map, Maps
from evaluation.run_metric import SetMetric

FIT_STEPS = 200
FIT_TOLERANCE = 1e-10

Mask = Bool[np.ndarray, "member"]
PerMember = Float[np.ndarray, "member"]
Weights = Float[np.ndarray, "member *_"]
Table = Float[np.ndarray, "member scored"]
MapsOfClass = Float[np.ndarray, "scored member pixel"]
TargetProbs = Float[np.ndarray, "pixel member"]


def weighted_mean(
    classes: int,
    ignore: int | None,
    kinds: tuple[str, ...],
    metric: SetMetric | None = None,
    *,
    objective: Objective = "metric",
    weights: Sequence[float] | Sequence[Sequence[float]] | None = None,
    per_class: bool = False,
    sample_pixels: SamplePixels = 100_000,
    balance: Balance = 0.0,
    floor: Floor = 1e-6,
    seed: Seed = 0,
) -> Fusion | LearnedFusion:
    """Average the members' probabilities with one weight per member, or per member and class.

    Without `weights` they are fitted on held-out pixels. For probabilities they are those of the
    lowest log-loss of the mixture, where a member that only repeats another adds nothing. With
    `per_class` each class is a yes-or-no question of its own with its own weights. Both problems
    are convex. Classes that do not occur in the target (also the ignored one) are decided by all
    members equally.

    By default decisions have weights of their own, and a factor per class: those of the highest
    score, pulled towards equal weights. The ignored class is never decided then.

    Args:
        ignore: the class whose pixels are left out of the fit.
        metric: what decisions are fitted by; by default the mean IoU of all classes but the ignored
            one.
        objective: what decisions are fitted by, `metric` or `log_loss`; see `ensemble.decision`.
        weights: one per member, 0 or more, in the order of the members; or one list per member, of
            one per class. Those of a class are divided by their sum.
        per_class: fit weights for each class.
        sample_pixels: number of pixels to fit on, about as many of each class.
        balance: 0 weighs classes as often as they occur, 1 equally.
        floor: lower bound of the mixture's probability of the target.
        seed: random seed of the sample.

    Raises:
        BadSpec: weights that are negative, all zero (for a class), or not one per member and class.

    Examples:
        >>> a, b = np.array([[1, 0], [0.5, 0.5]], np.float32)
        >>> fuse = weighted_mean(2, None, ("probabilities",) * 2, weights=[3.0, 1.0])
        >>> fuse(np.stack([a, b])[:, None, :, None, None]).ravel()
        array([0.875, 0.125], dtype=float32)
    """
    if weights is not None:
        return WeightedMean(_check_weights(weights, len(kinds), classes))

    def fit(blocks: Blocks) -> Fusion:
        sample = draw_pixels(
            blocks, classes=classes, ignore=ignore, pixels=sample_pixels, balance=balance, seed=seed
        )
        if objective == "log_loss":
            return WeightedMean(_fit_log_loss(sample, per_class, floor))

        def learner(prepared: DecisionSample) -> Learner:
            return _WeightsLearner(prepared, per_class, floor)

        return fit_pixel_decision(sample, learner, kinds, metric, ignore)

    return LearnedFusion(fit)


def fit_pixel_decision(
    sample: PixelSample,
    learner: Callable[[DecisionSample], Learner],
    kinds: Sequence[str],
    metric: SetMetric | None,
    ignore: int | None,
) -> Fusion:
    """Fit decisions by the metric on sampled pixels, on fewer of them in inner folds.

    They are chosen among what the learner gives, the mean and each member; see `fit_decision`.

    Args:
        sample: the pixels.
        learner: of the strategy, for some of them.
        kinds: one per member.
        metric: what decisions are fitted by; by default the mean IoU of all but the ignored class.
        ignore: the class that is not scored.
    """
    whole, thinned = (
        learner(DecisionSample.of(part, metric, ignore, generalists(kinds)))
        for part in (sample, thin(sample, INNER_PIXELS))
    )
    return fit_decision(whole, mean_and_members(kinds), thinned)


def generalists(kinds: Sequence[str]) -> Mask:
    """Mark the members of all classes; all members where there are only specialists."""
    general = np.array([kind != ONE_VS_REST for kind in kinds])
    return general if general.any() else ~general


def mean_and_members(kinds: Sequence[str]) -> list[Fusion]:
    """Return fusions that give the mean of the members of all classes, then each member."""
    general = generalists(kinds)
    mean: Fusion = Mean() if general.all() else WeightedMean(_normalise(general.astype(float)))
    return [mean, *(WeightedMean(one) for one in np.eye(len(kinds), dtype=np.float32))]


@dataclass(frozen=True)
class WeightedMean(PixelwiseFusion):
    """The weighted mean of the members' maps, renormalised.

    Args:
        weights: one per member, or one per member and class. Those of a class that sum to more than
            those of another favour it; a class with none is never predicted, unless no other has a
            probability.
    """

    weights: Weights

    def of_members(self, members: Sequence[int]) -> Fusion:
        """Return the mean of some of the members; where their weights are 0, of all alike.

        Raises:
            BadMaps: all weights are 0.
        """
        weights = self.weights[list(members)]
        if not weights.any():
            raise BadMaps("all of these have weight 0")
        weights = np.where(weights.any(axis=0), weights, np.float32(1))
        # Classes keep the factors that decisions give them.
        factors = self.weights.sum(axis=0)
        return WeightedMean((weights / weights.sum(axis=0) * factors).astype(np.float32))

    def _scores(self, maps: Maps) -> Map:
        scores: Map = np.zeros(maps.shape[1:], np.float32)
        weighted = np.empty_like(scores)
        used = self.weights.reshape(len(maps), -1).any(axis=1)
        for member in np.flatnonzero(used):
            scores += np.multiply(maps[member], self.weights[member][..., None, None], out=weighted)
        # The members that count for a class may all give it 0, and so for every class.
        return fallback_to_mean(scores, maps[used]) if self.weights.ndim > 1 else scores


def _check_weights(
    weights: Sequence[float] | Sequence[Sequence[float]], members: int, classes: int
) -> Weights:
    text = f"weights {list(weights)}"
    if len(weights) != members:
        raise BadSpec(f"{text} are {len(weights)}; expected {members}, one per member")
    lengths = {len(w) for w in weights if not isinstance(w, float | int)} - {classes}
    if lengths:
        raise BadSpec(
            f"{text} contain a list of {lengths.pop()}; expected {classes}, one per class"
        )
    values = np.asarray(weights, np.float64)
    if not np.isfinite(values).all() or (values < 0).any():
        bad = values[~np.isfinite(values) | (values < 0)][0]
        raise BadSpec(f"{text} contain {bad:g}; expected numbers from 0 up")
    if not values.any(axis=0).all():
        where = f" for class {int(np.argmin(values.any(axis=0)))}" if values.ndim > 1 else ""
        raise BadSpec(f"{text} are all 0{where}; expected one above 0")
    return _normalise(values / values.max(axis=0))


def _fit_log_loss(sample: PixelSample, per_class: bool, floor: float) -> Weights:
    if per_class:
        return _fit_per_class(sample, floor)
    probs = sample.maps[np.arange(len(sample.target)), :, sample.target]
    return _minimise_log_loss(probs, sample.weight, floor)


def _fit_per_class(sample: PixelSample, floor: float) -> Weights:
    members, classes = sample.maps.shape[1:]
    weights = np.full((members, classes), 1 / members, np.float32)
    for label in np.flatnonzero(sample.counts):
        yes = sample.maps[:, :, label]
        probs = np.where((sample.target == label)[:, None], yes, 1 - yes)
        weights[:, label] = _minimise_log_loss(probs, sample.weight, floor)
    return weights


def _minimise_log_loss(probs: TargetProbs, weight: PerPixel, floor: float) -> PerMember:
    """Minimise over weights that are 0 or more and sum to 1: a convex problem."""
    from scipy.optimize import LinearConstraint, minimize

    members = probs.shape[1]
    probs = np.maximum(probs, floor, dtype=np.float64)

    def loss(weights: PerMember) -> tuple[float, PerMember]:
        mixture = probs @ weights
        return -float(weight @ np.log(mixture)), -((weight / mixture) @ probs)

    result = minimize(
        loss,
        np.full(members, 1 / members),
        jac=True,
        method="SLSQP",
        bounds=[(0, 1)] * members,
        constraints=LinearConstraint(np.ones((1, members)), 1, 1),
        options={"maxiter": FIT_STEPS, "ftol": FIT_TOLERANCE},
    )
    return _normalise(np.clip(result.x, 0, None))


def _normalise(weights: Weights) -> Weights:
    normalised: Weights = (weights / weights.sum(axis=0)).astype(np.float32)
    return normalised


class _WeightsLearner(Learner):
    """Weights per member and class as parameters."""

    def __init__(self, prepared: DecisionSample, per_class: bool, floor: float) -> None:
        super().__init__(prepared.pixels, prepared.labels)
        self.prepared, self.per_class, self.floor = prepared, per_class, floor
        self.maps = np.ascontiguousarray(
            prepared.sample.maps[:, :, prepared.scored].transpose(2, 1, 0)
        )

    def start(self, rows: Pixels) -> Weights:
        """Return the weights of the lowest log-loss."""
        return _fit_log_loss(take(self.prepared.sample, rows), self.per_class, self.floor)

    def improve(self, rows: Pixels, start: Weights, anchor: Weights, strength: float) -> Weights:
        """Fit weights and class factors by the metric, pulled to the mean."""
        maps = self.maps[:, :, rows]
        model = _Mixture(maps, self.per_class, self.floor)
        mean = np.log(np.maximum(maps.mean(axis=1), self.floor))
        found = fit_soft_score(
            model,
            self.pixels.take(rows),
            model.pack(self._table(start)),
            mean,
            strength,
            bounds=model.bounds,
        )
        return self._widen(model.table(found))

    def finish(self, rows: Pixels, latest: Weights, start: Weights, strength: float) -> Weights:
        """Search for the biases alone: the weights are few, and a part of the pixels gives them."""
        best: Weights = self._best_of([start, latest], rows, self.pixels.take(rows))
        return best

    def logits(self, parameters: Weights, rows: Pixels) -> LogScores:
        """Return the logarithms of the weighted sums."""
        scores = _weighted_sums(self.maps[:, :, rows], self._table(parameters))
        logits: LogScores = np.log(np.maximum(scores, np.float32(self.floor)))
        return logits

    def with_bias(self, parameters: Weights, bias: Biases) -> Weights:
        """Multiply the weights of each class."""
        return self._widen(self._table(parameters) * np.exp(bias))

    def fusion(self, parameters: Weights) -> Fusion:
        """Return the weighted mean."""
        return WeightedMean(parameters)

    def _table(self, weights: Weights) -> Table:
        """Return weights per member and scored class."""
        scored = self.prepared.scored
        if weights.ndim > 1:
            return weights[:, scored]
        return np.repeat(weights[:, None], len(scored), axis=1)

    def _widen(self, table: Table) -> Weights:
        """Return weights of all classes, the ignored one's 0; they sum to 1 on average."""
        weights = np.zeros((len(table), len(self.prepared.sample.counts)), np.float32)
        weights[:, self.prepared.scored] = table / table.sum(axis=0).mean()
        return weights


def _weighted_sums(maps: MapsOfClass, table: Table) -> LogScores:
    """Return the sum over members, class by class: a product of matrices each."""
    sums: LogScores = (table.T[:, None] @ maps)[:, 0]
    return sums


class _Mixture:
    """Logits of weighted sums: of weights per member and class, or per member with class biases."""

    def __init__(self, maps: MapsOfClass, per_class: bool, floor: float) -> None:
        self.maps, self.per_class, self.floor = maps, per_class, np.float32(floor)
        self.classes, self.members = maps.shape[:2]
        self.sums = maps[:, 0]

    @property
    def bounds(self) -> Bounds:
        """Weights are 0 or more; biases are free."""
        if self.per_class:
            return [(0.0, None)] * (self.members * self.classes)
        return [(0.0, None)] * self.members + [(None, None)] * self.classes

    def pack(self, table: Table) -> Parameters:
        """Return the parameters of a table that was fitted this way."""
        if self.per_class:
            return table.ravel().astype(np.float64)
        factors = table.sum(axis=0, dtype=np.float64)
        weights = (table / factors).mean(axis=1)
        return np.concatenate([weights, np.log(factors)])

    def table(self, parameters: Parameters) -> Table:
        """Return weights per member and class."""
        if self.per_class:
            return parameters.reshape(self.members, self.classes).astype(np.float32)
        weights, biases = np.split(parameters.astype(np.float32), [self.members])
        return weights[:, None] * np.exp(biases)

    def logits(self, parameters: Parameters) -> LogScores:
        """Return the logarithms of the weighted sums."""
        sums = _weighted_sums(self.maps, self.table(parameters))
        self.sums, self.parameters = np.maximum(sums, self.floor, out=sums), parameters
        logits: LogScores = np.log(sums)
        return logits

    def pull_back(self, gradient: LogScores) -> Parameters:
        """Turn a gradient by the logits into one by the parameters."""
        by_table: Table = (self.maps @ (gradient / self.sums)[..., None])[..., 0].T
        if self.per_class:
            return by_table.ravel()
        weights, biases = np.split(self.parameters, [self.members])
        factors = np.exp(biases)
        by_factor = (by_table * weights[:, None]).sum(axis=0) * factors
        return np.concatenate([by_table @ factors, by_factor])
