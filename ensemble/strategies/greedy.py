"""Ensemble selection: members are added one by one, repeatedly if that helps."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated

import numpy as np
from jaxtyping import Float, Integer
from pydantic import Field

from ensemble.fusion import Blocks, Fusion, LearnedFusion
from ensemble.sampling import PixelSample, PixelTarget, SamplePixels, draw_pixels
from ensemble.strategies.weighted_mean import WeightedMean
from evaluation.core.arrays import argmax
from evaluation.core.errors import BadData
from evaluation.core.seeds import Seed
from evaluation.run_metric import SetMetric

Weights = Float[np.ndarray, "member"]
Probs = Float[np.ndarray, "member class pixel"]
Candidates = Integer[np.ndarray, "candidate"]
Sums = Float[np.ndarray, "class pixel"]


def greedy(
    classes: int,
    ignore: int | None,
    metric: SetMetric | None = None,
    *,
    rounds: Annotated[int, Field(ge=1, le=100_000)] = 30,
    bags: Annotated[int, Field(ge=0, le=100_000)] = 10,
    bag_share: Annotated[float, Field(gt=0, le=1)] = 0.5,
    sample_pixels: SamplePixels = 50_000,
    seed: Seed = 0,
) -> LearnedFusion:
    """Choose a multiset of members whose mean scores highest on held-out pixels.

    It starts empty; each round adds the member, used already or not, that raises the score most or
    lowers it least, ties going to one used already; the best of the sets on the way is kept. The
    same is done in bags of randomly drawn members, which overfits less, and the sets' mean is
    taken. Where that scores lower than the set chosen among all members, the latter is taken: on
    the pixels it was fitted on, the result is never below the best member.

    The score is the run's metric in its form for sums of pixels: `masked`, `dice`, `iou` or
    `foreground`; a run of any other metric takes `masked` here. It is an estimate: on a sample of
    about as many pixels of each class, weighted back to the true shares.

    Args:
        ignore: the class whose pixels are not scored.
        metric: what is scored; by default the mean IoU of all classes but the ignored one.
        rounds: number of members that are added.
        bags: number of bags; 0 disables bagging.
        bag_share: share of the members in a bag.
        sample_pixels: number of pixels to score on, about as many of each class.
        seed: random seed of pixels and bags.

    References:
        Caruana et al., "Ensemble Selection from Libraries of Models", ICML 2004.

    Examples:
        The first of two members is right everywhere.

        >>> from ensemble.fusion import TrainingBlock
        >>> target = np.array([[[0, 1, 1, 0]]])
        >>> right = np.eye(2, dtype=np.float32)[target].transpose(0, 3, 1, 2)
        >>> block = TrainingBlock(np.stack([right, 1 - right]), target)
        >>> greedy(2, None, bags=0).fit([block]).weights
        array([1., 0.], dtype=float32)
    """

    def fit(blocks: Blocks) -> Fusion:
        sample = draw_pixels(
            blocks, classes=classes, ignore=ignore, pixels=sample_pixels, seed=seed
        )
        probs = np.ascontiguousarray(sample.maps.transpose(1, 2, 0))
        score = _SampleScore.of(sample, metric or SetMetric.masked(classes, ignore))
        members = np.arange(len(probs))
        chosen = select_members(probs, members, score, rounds)
        generator = np.random.default_rng(seed)
        size = max(1, round(bag_share * len(probs)))
        drawn = [generator.choice(members, size, replace=False) for _ in range(bags)]
        if drawn:
            bagged = np.mean(
                [select_members(probs, np.sort(bag), score, rounds) for bag in drawn], axis=0
            )
            chosen = max(bagged, chosen, key=lambda w: score(np.tensordot(w, probs, axes=1)))
        return WeightedMean(chosen.astype(np.float32))

    return LearnedFusion(fit)


@dataclass(frozen=True)
class _SampleScore:
    """Score of the argmax of sums of probabilities on the sampled pixels."""

    target: PixelTarget
    pixels_per_sample: Float[np.ndarray, "class"]
    metric: SetMetric

    @staticmethod
    def of(sample: PixelSample, metric: SetMetric) -> "_SampleScore":
        """Weigh each class by the number of pixels that one in the sample represents.

        Raises:
            BadData: no pixel of the classes that the metric measures.
        """
        drawn = np.bincount(sample.target, minlength=len(sample.counts))
        if not drawn[list(metric.over)].any():
            raise BadData("target to fit on has no pixel of the classes that the metric measures")
        return _SampleScore(sample.target, sample.counts / np.maximum(drawn, 1), metric)

    def __call__(self, sums: Sums) -> float:
        """Return the mean over the metric's classes that occur in target or prediction."""
        classes = len(self.pixels_per_sample)
        pairs = np.bincount(self.target * classes + argmax(sums, axis=0), minlength=classes**2)
        counts = pairs.reshape(classes, classes) * self.pixels_per_sample[:, None]
        hits = counts.diagonal()
        union = counts.sum(axis=0) + counts.sum(axis=1) - hits
        values = self.metric.per_class(hits, union)[list(self.metric.over)]
        return float(values[~np.isnan(values)].mean())


def select_members(
    probs: Probs,
    candidates: Candidates,
    score: Callable[[Sums], float],
    rounds: int,
) -> Weights:
    """Add members one by one, and return the share of each in the best set on the way.

    Args:
        probs: probabilities of all members.
        candidates: members to choose from.
        score: of a sum of probabilities, higher is better.
        rounds: number of members to add.
    """
    sums, used = np.zeros_like(probs[0]), np.zeros(len(probs))
    best, best_used = -np.inf, used
    for _ in range(rounds):
        scores = {member: score(sums + probs[member]) for member in candidates}
        # Of equal ones max returns the first, which is the lowest member.
        added = max(candidates, key=lambda member: (scores[member], used[member] > 0))
        sums += probs[added]
        used[added] += 1
        if scores[added] > best:
            best, best_used = scores[added], used.copy()
    shares: Weights = best_used / best_used.sum()
    return shares
