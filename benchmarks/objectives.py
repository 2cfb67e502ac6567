"""What fitting decisions by the metric gains and costs, over drawn populations of members.

.venv/bin/python -m benchmarks.objectives --draws 6

--surrogate lovasz puts the Lovasz extension of the score in the place of its soft counts.
"""

import argparse
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.special import softmax

from ensemble.fusion import TrainingBlock
from ensemble.soft_score import LogScores, ScoredPixels
from ensemble.strategy import build_strategy
from evaluation.confusion import confusion
from evaluation.protocols import masked

SHARES = np.array([0.55, 0.3, 0.12, 0.03])
WORTH = {
    "equal": [1.0, 1.0, 1.0, 1.0, 1.0],
    "unequal": [1.6, 1.2, 1.0, 0.7, 0.5],
    "noisy": [1.2, 1.0, 1.0, 0.35, 0.25],
    "useless": [1.2, 1.0, 1.0, 0.0, 0.0],
    "one good": [1.8, 0.5, 0.5, 0.5, 0.5],
}
"""How strongly each member's scores depend on the true class."""

STRATEGIES = ("weighted_mean", "weighted_mean(per_class=true)", "stacking", "evidence", "gate")
CLASSES, SIDE, CELL = len(SHARES), 16, 4
EXAMINED = 200


@dataclass
class Population:
    """Members whose scores of a class are signal, noise of the image that all share, and their own.

    Args:
        worth: of each member.
        prior: how strongly members know the classes' shares: with 1 they lose the rare class.
        rng: draws everything.
    """

    worth: list[float]
    prior: float
    rng: np.random.Generator

    def __post_init__(self) -> None:
        members = len(self.worth)
        self.preference = self.rng.normal(size=(members, CLASSES)) * 0.15
        self.confusion = self.rng.normal(size=(members, CLASSES, CLASSES)) * 0.08
        self.confidence = np.exp(self.rng.normal(size=members) * 0.4)

    def draw(self, images: int) -> TrainingBlock:
        """Draw images with some pixels of every class."""
        while True:
            block = self._draw(images)
            if (np.bincount(block.target.ravel(), minlength=CLASSES) >= CELL**2).all():
                return block

    def _draw(self, images: int) -> TrainingBlock:
        rng, cells = self.rng, SIDE // CELL
        shares = rng.dirichlet(8 * SHARES, images).cumsum(axis=1)[:, None, None]
        coarse = (rng.random((images, cells, cells, 1)) > shares).sum(axis=-1).clip(0, CLASSES - 1)
        target = coarse.repeat(CELL, axis=1).repeat(CELL, axis=2)
        true = np.eye(CLASSES)[target]
        shape, of_image = true.shape, (images, 1, 1, CLASSES)
        shared = 0.7 * rng.normal(size=shape) + 0.5 * rng.normal(size=of_image)
        maps = []
        for member, worth in enumerate(self.worth):
            known = (true @ self.confusion[member] + shared) * (worth > 0)
            own = rng.normal(size=shape) + 0.5 * rng.normal(size=of_image)
            scores = 2.2 * worth * true + known + own
            scores += self.preference[member] + self.prior * np.log(SHARES)
            odds = np.exp(scores * self.confidence[member])
            maps.append(odds / odds.sum(axis=-1, keepdims=True))
        drawn = np.moveaxis(np.stack(maps), -1, 2).astype(np.float32)
        return TrainingBlock(drawn, target.astype(np.uint8))


def lovasz_loss(self: ScoredPixels, logits: LogScores, sharpness: float) -> tuple[float, LogScores]:
    """Return the Lovasz extension of 1 minus the score over the whole sample, and its gradient.

    References:
        Berman, Triki and Blaschko, "The Lovasz-Softmax Loss", CVPR 2018.
    """
    probs = softmax(logits * np.float32(sharpness), axis=0)
    true = np.bincount(self.target, self.weight, self.classes)
    over = [label for label in self.metric.over if true[label]]
    loss, by_probs = 0.0, np.zeros_like(probs)
    for label in over:
        own = self.target == label
        errors = np.where(own, 1 - probs[label], probs[label])
        order = np.argsort(-errors)
        missed = np.cumsum((self.weight * own)[order])
        union = true[label] + np.cumsum((self.weight * ~own)[order])
        hits = true[label] - missed
        ratio = hits / union if self.metric.ratio == "iou" else 2 * hits / (hits + union)
        steps = np.diff(1 - ratio, prepend=0.0)
        loss += float(errors[order] @ steps) / len(over)
        by_probs[label, order] = np.where(own[order], -steps, steps) / len(over)
    gradient = probs * (by_probs - (probs * by_probs).sum(axis=0)) * np.float32(sharpness)
    return loss, gradient


def score(fused: np.ndarray, target: np.ndarray) -> float:
    """Return the mean IoU of the classes with the highest scores."""
    pred = fused.argmax(axis=1).astype(np.uint8)
    return float(masked()(confusion(target, pred, classes=CLASSES).sum(axis=0), None).miou)


def results(
    draws: int, strategies: list[str], images: list[int], objectives: list[str]
) -> Iterator[dict[str, Any]]:
    """Fit every strategy to every population; yield scores on other images of it."""
    for worth in WORTH:
        for prior in (0.0, 1.0):
            for count in images:
                for seed in range(draws):
                    key = [seed, count, int(prior), list(WORTH).index(worth)]
                    population = Population(WORTH[worth], prior, np.random.default_rng(key))
                    fit, examined = population.draw(count), population.draw(EXAMINED)
                    row = {"population": worth, "prior": prior, "images": count, "draw": seed}
                    yield row | _measure(fit, examined, strategies, objectives)


def _measure(
    fit: TrainingBlock, examined: TrainingBlock, strategies: list[str], objectives: list[str]
) -> dict[str, Any]:
    best = int(np.argmax([score(one, fit.target) for one in fit.maps]))
    mean = score(examined.maps.mean(axis=0), examined.target)
    result: dict[str, Any] = {
        "mean": mean,
        "member": score(examined.maps[best], examined.target),
    }
    for spec in strategies:
        for objective in objectives:
            name = f"{spec[:-1]}, " if spec.endswith(")") else f"{spec}("
            built = build_strategy(
                f"{name}objective={objective})",
                classes=CLASSES,
                ignore=None,
                kinds=("probabilities",) * len(fit.maps),
                seed=0,
            )
            start = time.process_time()
            fusion = built.fit([fit])
            seconds = time.process_time() - start
            result[f"{spec} {objective}"] = score(fusion(examined.maps), examined.target)
            result[f"{spec} {objective} s"] = seconds
            result[f"{spec} {objective} chosen"] = getattr(fusion, "chosen", "")
    return result


def main() -> None:
    """Print mean gains over the better of the mean and the best member."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--draws", type=int, default=4)
    parser.add_argument("--images", type=int, nargs="+", default=[8, 40])
    parser.add_argument("--strategies", nargs="+", default=list(STRATEGIES))
    parser.add_argument("--objectives", nargs="+", default=["log_loss", "metric"])
    parser.add_argument("--surrogate", choices=["soft", "lovasz"], default="soft")
    args = parser.parse_args()
    if args.surrogate == "lovasz":
        ScoredPixels.soft_loss = lovasz_loss  # type: ignore[method-assign]
    rows = list(results(args.draws, args.strategies, args.images, args.objectives))
    cases = list(dict.fromkeys((r["population"], r["prior"], r["images"]) for r in rows))
    print("gain over the better of the mean and the best member; the lowest; what was chosen")
    for spec in args.strategies:
        for objective in args.objectives:
            name = f"{spec} {objective}"
            gains = {case: [] for case in cases}
            for r in rows:
                gain = r[name] - max(r["mean"], r["member"])
                gains[r["population"], r["prior"], r["images"]].append(gain)
            every = np.concatenate(list(gains.values()))
            chosen = [str(r[f"{name} chosen"]) for r in rows]
            tally = ", ".join(f"{k} {chosen.count(k)}" for k in dict.fromkeys(chosen) if k)
            times = np.median([r[f"{name} s"] / r[f"{spec} {args.objectives[0]} s"] for r in rows])
            print(
                f"{name:42} mean {every.mean():+.4f}  loss {np.maximum(-every, 0).mean():.4f}"
                f"  lowest {every.min():+.4f}  time x{times:.1f}  {tally}"
            )
            for case, values in gains.items():
                print(f"    {case!s:28} {np.mean(values):+.4f}  lowest {np.min(values):+.4f}")


if __name__ == "__main__":
    main()
