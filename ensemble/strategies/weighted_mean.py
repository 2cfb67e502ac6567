"""The weighted mean over members, with weights given or learned, for all classes or for each."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from ensemble.fusion import Blocks, Floor, Fusion, LearnedFusion, PixelwiseFusion
from ensemble.sampling import Balance, PerPixel, PixelSample, SamplePixels, draw_pixels
from ensemble.strategies.means import fallback_to_mean
from evaluation.core.errors import BadMaps, BadSpec
from evaluation.core.seeds import Seed
from evaluation.core.types import Map, Maps

FIT_STEPS = 200
FIT_TOLERANCE = 1e-10

PerMember = Float[np.ndarray, "member"]
Weights = Float[np.ndarray, "member *class"]
TargetProbs = Float[np.ndarray, "pixel member"]


def weighted_mean(
    classes: int,
    ignore: int | None,
    kinds: tuple[str, ...],
    *,
    weights: Sequence[float] | Sequence[Sequence[float]] | None = None,
    per_class: bool = False,
    sample_pixels: SamplePixels = 100_000,
    balance: Balance = 0.0,
    floor: Floor = 1e-6,
    seed: Seed = 0,
) -> Fusion | LearnedFusion:
    """Average the members' probabilities with one weight per member, or per member and class.

    Without `weights` they are fitted on held-out pixels: those of the lowest log-loss of the
    mixture, where a member that only repeats another adds nothing. With `per_class` each class is a
    yes-or-no question of its own with its own weights. Both problems are convex. Classes that do
    not occur in the target (also the ignored one) are decided by all members equally.

    Args:
        ignore: the class whose pixels are left out of the fit.
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
        if per_class:
            return WeightedMean(_fit_per_class(sample, floor))
        probs = sample.maps[np.arange(len(sample.target)), :, sample.target]
        return WeightedMean(_minimise_log_loss(probs, sample.weight, floor))

    return LearnedFusion(fit)


@dataclass(frozen=True)
class WeightedMean(PixelwiseFusion):
    """The weighted mean of the members' maps; the weights of a class sum to 1.

    Args:
        weights: one per member, or one per member and class.
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
        return WeightedMean(_normalise(np.where(weights.any(axis=0), weights, 1)))

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
