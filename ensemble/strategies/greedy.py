"""Ensemble selection: members are added one by one, the same again if need be."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated

import numpy as np
from jaxtyping import Float, Integer
from pydantic import Field

from ensemble.fusion import Blocks, Fusion, LearnedFusion
from ensemble.sampling import PixelSample, PixelTarget, sample
from ensemble.strategies.weighted_mean import WeightedMean
from evaluation.core.arrays import argmax

Weights = Float[np.ndarray, "member"]
Said = Float[np.ndarray, "member class pixel"]
Candidates = Integer[np.ndarray, "candidate"]
Sums = Float[np.ndarray, "class pixel"]


def greedy(
    classes: int,
    ignore: int | None,
    *,
    rounds: Annotated[int, Field(ge=1)] = 30,
    bags: Annotated[int, Field(ge=0)] = 10,
    bag_share: Annotated[float, Field(gt=0, le=1)] = 0.5,
    sample_pixels: Annotated[int, Field(ge=1)] = 50_000,
    seed: Annotated[int, Field(ge=0)] = 0,
) -> LearnedFusion:
    """Choose a multiset of members whose mean has the highest masked mIoU on held-out pixels.

    It starts empty; each round adds the member, used already or not, that raises the score most or
    lowers it least, of equal ones one used already; the best of the sets met on the way is kept.
    The same is done in bags of members drawn at random, which overfits less, and the sets' mean is
    taken. Where that scores lower than the set chosen among all members, this is taken instead: on
    the pixels it learned from, the result is never below the best member.

    The score is an estimate: on a sample of as many pixels of each class, counted with the weight
    that gives classes their true shares.

    Args:
        classes: how many classes there are.
        ignore: the class whose pixels are not scored.
        rounds: how many members are added.
        bags: how many; 0 goes without.
        bag_share: the share of the members that a bag draws.
        sample_pixels: how many pixels to score on, about the same number of each class.
        seed: of the draw of pixels and bags.

    Source: Caruana et al., "Ensemble Selection from Libraries of Models", ICML 2004.
    """

    def fit(blocks: Blocks) -> Fusion:
        drawn = sample(blocks, classes=classes, ignore=ignore, pixels=sample_pixels, seed=seed)
        said = np.ascontiguousarray(drawn.maps.transpose(1, 2, 0))
        target = _Target.of(drawn, classes, ignore)
        everybody = np.arange(len(said))
        chosen = selected(said, everybody, target, rounds)
        generator = np.random.default_rng(seed)
        size = max(1, round(bag_share * len(said)))
        drawn_bags = [generator.choice(everybody, size, replace=False) for _ in range(bags)]
        if drawn_bags:
            bagged = np.mean(
                [selected(said, np.sort(b), target, rounds) for b in drawn_bags], axis=0
            )
            chosen = max(bagged, chosen, key=lambda w: target(np.tensordot(w, said, axes=1)))
        return WeightedMean(chosen.astype(np.float32))

    return LearnedFusion(fit)


@dataclass(frozen=True)
class _Target:
    """Masked mIoU of what sums of probabilities say about the sampled pixels."""

    target: PixelTarget
    share: Float[np.ndarray, "class"]
    ignore: int | None

    @staticmethod
    def of(drawn: PixelSample, classes: int, ignore: int | None) -> "_Target":
        """Give each class the weight of its pixels in the sample."""
        taken = np.bincount(drawn.target, minlength=classes)
        return _Target(drawn.target, drawn.counts / np.maximum(taken, 1), ignore)

    def __call__(self, sums: Sums) -> float:
        """Return the mean IoU over the scored classes that occur in target or prediction."""
        classes = len(self.share)
        pairs = np.bincount(self.target * classes + argmax(sums, axis=0), minlength=classes**2)
        counts = pairs.reshape(classes, classes) * self.share[:, None]
        hits = counts.diagonal()
        either = counts.sum(axis=0) + counts.sum(axis=1) - hits
        occurs = either > 0
        if self.ignore is not None:
            occurs[self.ignore] = False
        return float((hits[occurs] / either[occurs]).mean())


def selected(
    said: Said,
    among: Candidates,
    target: Callable[[Sums], float],
    rounds: int,
) -> Weights:
    """Add members one by one, and return the share of each in the best set met on the way.

    Args:
        said: probabilities of all members.
        among: members to choose from.
        target: score of a sum of probabilities, higher is better.
        rounds: how many are added.
    """
    sums, used = np.zeros_like(said[0]), np.zeros(len(said))
    best, best_used = -np.inf, used
    for _ in range(rounds):
        scores = {member: target(sums + said[member]) for member in among}
        # Of equal ones max gives the first, which is the first member.
        added = max(among, key=lambda member: (scores[member], used[member] > 0))
        sums += said[added]
        used[added] += 1
        if scores[added] > best:
            best, best_used = scores[added], used.copy()
    shares: Weights = best_used / best_used.sum()
    return shares
