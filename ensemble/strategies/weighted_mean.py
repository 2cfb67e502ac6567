"""The weighted mean over members, with weights given or learned."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

import numpy as np
from jaxtyping import Float
from pydantic import Field
from scipy.optimize import LinearConstraint, minimize

from ensemble.fusion import SMALLEST, Blocks, Fusion, Learned, by_pieces
from ensemble.sample import PerPixel, sample
from evaluation.ground.arrays import Map, Maps
from evaluation.ground.errors import BadSpec

FIT_STEPS = 200
FIT_TOLERANCE = 1e-10

Weights = Float[np.ndarray, "member"]


def weighted_mean(
    classes: int,
    ignore: int | None,
    kinds: tuple[str, ...],
    *,
    weights: Sequence[float] | None = None,
    sample_pixels: Annotated[int, Field(ge=1)] = 100_000,
    balance: Annotated[float, Field(ge=0, le=1)] = 0.0,
    floor: Annotated[float, Field(ge=SMALLEST, lt=1)] = 1e-6,
    seed: Annotated[int, Field(ge=0)] = 0,
) -> Fusion | Learned:
    """Average the members' probabilities with a weight for each member.

    Without `weights` they are those that make the truth of held-out pixels most probable, that is,
    minimise the log-loss of the mixture. A member that only repeats another adds nothing there.

    Args:
        classes: how many classes there are.
        ignore: the class whose pixels are not learned from.
        kinds: one a member.
        weights: one a member, 0 or more, in the order of the members; divided by their sum.
        sample_pixels: how many pixels to learn from, about the same number of each class.
        balance: 0 counts classes as often as they occur, 1 all alike.
        floor: the mixture's probability of the truth is never taken for less than this.
        seed: of the draw of pixels.

    Raises:
        BadSpec: weights that are negative, all zero, or not one a member.
    """
    if weights is not None:
        return WeightedMean(_checked(weights, len(kinds)))

    def fit(blocks: Blocks) -> Fusion:
        drawn = sample(
            blocks, classes=classes, ignore=ignore, pixels=sample_pixels, balance=balance, seed=seed
        )
        told = drawn.maps[np.arange(len(drawn.truth)), :, drawn.truth].astype(np.float64)
        return WeightedMean(_most_probable(np.maximum(told, floor), drawn.weight))

    return Learned(fit)


@dataclass(frozen=True)
class WeightedMean:
    """The mean of the members' maps, each with its weight; the weights sum to 1."""

    weights: Weights

    def __call__(self, maps: Maps) -> Map:
        """Fuse."""
        return by_pieces(maps, self._scores)

    def _scores(self, maps: Maps) -> Map:
        scores: Map = np.zeros(maps.shape[1:], np.float32)
        weighed = np.empty_like(scores)
        for one, weight in zip(maps, self.weights, strict=True):
            if weight:
                scores += np.multiply(one, weight, out=weighed)
        return scores


def _checked(weights: Sequence[float], members: int) -> Weights:
    written = f"weights {list(weights)}"
    if len(weights) != members:
        raise BadSpec(f"{written} are {len(weights)}; expected {members}, one a member")
    given = np.asarray(weights, np.float64)
    if not np.isfinite(given).all() or (given < 0).any():
        strange = given[~np.isfinite(given) | (given < 0)][0]
        raise BadSpec(f"{written} hold {strange:g}; expected numbers from 0 up")
    if not given.any():
        raise BadSpec(f"{written} are all 0; expected one above 0")
    return _summing_to_1(given / given.max())


def _most_probable(told: Float[np.ndarray, "pixel member"], weight: PerPixel) -> Weights:
    """Minimise the log-loss over weights that are 0 or more and sum to 1: a convex problem."""
    members = told.shape[1]

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


def _summing_to_1(weights: Weights) -> Weights:
    shares: Weights = (weights / weights.sum()).astype(np.float32)
    return shares
