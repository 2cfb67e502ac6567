"""The weighted mean over members, with weights given or learned, for all classes or for each."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

import numpy as np
from jaxtyping import Float
from pydantic import Field
from scipy.optimize import LinearConstraint, minimize

from ensemble.fusion import (
    SMALLEST,
    Blocks,
    Fusion,
    LearnedFusion,
    by_pieces,
)
from ensemble.sampling import PerPixel, PixelSample, sample
from ensemble.strategies.means import or_mean
from evaluation.core.errors import BadSpec
from evaluation.core.types import Map, Maps

FIT_STEPS = 200
FIT_TOLERANCE = 1e-10

Weights = Float[np.ndarray, "member"]
Given = Float[np.ndarray, "member *class"]
Told = Float[np.ndarray, "pixel member"]


def weighted_mean(
    classes: int,
    ignore: int | None,
    kinds: tuple[str, ...],
    *,
    weights: Sequence[float] | Sequence[Sequence[float]] | None = None,
    per_class: bool = False,
    sample_pixels: Annotated[int, Field(ge=1)] = 100_000,
    balance: Annotated[float, Field(ge=0, le=1)] = 0.0,
    floor: Annotated[float, Field(ge=SMALLEST, lt=1)] = 1e-6,
    seed: Annotated[int, Field(ge=0)] = 0,
) -> Fusion | LearnedFusion:
    """Average the members' probabilities with a weight for each member, or each member and class.

    Without `weights` they are those that make the target of held-out pixels most probable, that is,
    minimise the log-loss of the mixture. A member that only repeats another adds nothing there.
    With `per_class` each class is a question of its own, yes or no, and its weights are those that
    make the true answers most probable; both problems are convex. Classes of which the target has no
    pixel (also the ignored one) are decided by all members alike.

    Args:
        classes: how many classes there are.
        ignore: the class whose pixels are not learned from.
        kinds: one a member.
        weights: one a member, 0 or more, in the order of the members; or a list a member, of one a
            class. Those of a class are divided by their sum.
        per_class: learn weights for each class.
        sample_pixels: how many pixels to learn from, about the same number of each class.
        balance: 0 counts classes as often as they occur, 1 all alike.
        floor: the mixture's probability of the target is never taken for less than this.
        seed: of the draw of pixels.

    Raises:
        BadSpec: weights that are negative, all zero (for a class), or not one a member and class.
    """
    if weights is not None:
        return WeightedMean(_checked(weights, len(kinds), classes))

    def fit(blocks: Blocks) -> Fusion:
        drawn = sample(
            blocks, classes=classes, ignore=ignore, pixels=sample_pixels, balance=balance, seed=seed
        )
        if per_class:
            return WeightedMean(_by_class(drawn, floor))
        told = drawn.maps[np.arange(len(drawn.target)), :, drawn.target]
        return WeightedMean(_most_probable(told, drawn.weight, floor))

    return LearnedFusion(fit)


@dataclass(frozen=True)
class WeightedMean:
    """The mean of the members' maps, each with its weight; for a class the weights sum to 1.

    Args:
        weights: one a member, or one a member and class.
    """

    weights: Given

    def __call__(self, maps: Maps) -> Map:
        """Fuse."""
        return by_pieces(maps, self._scores)

    def _scores(self, maps: Maps) -> Map:
        scores: Map = np.zeros(maps.shape[1:], np.float32)
        weighed = np.empty_like(scores)
        asked = self.weights.reshape(len(maps), -1).any(axis=1)
        for place in np.flatnonzero(asked):
            scores += np.multiply(maps[place], self.weights[place][..., None, None], out=weighed)
        # Those who count for a class may all give it nothing, and so for every class.
        return or_mean(scores, maps[asked]) if self.weights.ndim > 1 else scores


def _checked(
    weights: Sequence[float] | Sequence[Sequence[float]], members: int, classes: int
) -> Given:
    written = f"weights {list(weights)}"
    if len(weights) != members:
        raise BadSpec(f"{written} are {len(weights)}; expected {members}, one a member")
    lengths = {len(w) for w in weights if not isinstance(w, float | int)} - {classes}
    if lengths:
        raise BadSpec(f"{written} hold a list of {lengths.pop()}; expected {classes}, one a class")
    given = np.asarray(weights, np.float64)
    if not np.isfinite(given).all() or (given < 0).any():
        strange = given[~np.isfinite(given) | (given < 0)][0]
        raise BadSpec(f"{written} hold {strange:g}; expected numbers from 0 up")
    if not given.any(axis=0).all():
        where = f" for class {int(np.argmin(given.any(axis=0)))}" if given.ndim > 1 else ""
        raise BadSpec(f"{written} are all 0{where}; expected one above 0")
    return _summing_to_1(given / given.max(axis=0))


def _by_class(drawn: PixelSample, floor: float) -> Given:
    members, classes = drawn.maps.shape[1:]
    weights = np.full((members, classes), 1 / members, np.float32)
    for label in np.flatnonzero(drawn.counts):
        yes = drawn.maps[:, :, label]
        told = np.where((drawn.target == label)[:, None], yes, 1 - yes)
        weights[:, label] = _most_probable(told, drawn.weight, floor)
    return weights


def _most_probable(told: Told, weight: PerPixel, floor: float) -> Weights:
    """Minimise the log-loss over weights that are 0 or more and sum to 1: a convex problem."""
    members = told.shape[1]
    told = np.maximum(told, floor, dtype=np.float64)

    def loss(weights: Weights) -> tuple[float, Weights]:
        mixture = told @ weights
        return -float(weight @ np.log(mixture)), -((weight / mixture) @ told)

    found = minimize(
        loss,
        np.full(members, 1 / members),
        jac=True,
        method="SLSQP",
        bounds=[(0, 1)] * members,
        constraints=LinearConstraint(np.ones((1, members)), 1, 1),
        options={"maxiter": FIT_STEPS, "ftol": FIT_TOLERANCE},
    )
    return _summing_to_1(np.clip(found.x, 0, None))


def _summing_to_1(weights: Given) -> Given:
    shares: Given = (weights / weights.sum(axis=0)).astype(np.float32)
    return shares
